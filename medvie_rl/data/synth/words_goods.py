"""Goods and services of receipts and invoices with their usual prices in cents, in English and German."""

Goods = tuple[tuple[str, str, int], ...]  # English name, German name, price in cents

PHARMACY: Goods = (
    ("Plasters, assorted", "Pflaster, sortiert", 349),
    ("Nasal spray", "Nasenspray", 425),
    ("Cough syrup", "Hustensaft", 799),
    ("Ibuprofen 400 20 tabs", "Ibuprofen 400 20 St.", 545),
    ("Vitamin D drops", "Vitamin D Tropfen", 995),
    ("Sun cream SPF 50", "Sonnencreme LSF 50", 1499),
    ("Hand cream", "Handcreme", 499),
    ("Throat lozenges", "Halstabletten", 629),
    ("Digital thermometer", "Fieberthermometer", 899),
    ("Elastic bandage", "Elastische Binde", 389),
    ("Eye drops", "Augentropfen", 749),
    ("Zinc tablets", "Zinktabletten", 595),
)
GROCERIES: Goods = (
    ("Wholemeal bread", "Vollkornbrot", 289),
    ("Milk 1 l", "Milch 1 l", 119),
    ("Butter 250 g", "Butter 250 g", 229),
    ("Eggs, 10", "Eier 10er", 319),
    ("Apples 1 kg", "Äpfel 1 kg", 249),
    ("Bananas", "Bananen", 179),
    ("Rice 1 kg", "Reis 1 kg", 269),
    ("Olive oil", "Olivenöl", 899),
    ("Coffee 500 g", "Kaffee 500 g", 749),
    ("Cheese, sliced", "Käse in Scheiben", 259),
    ("Tomatoes", "Tomaten", 299),
    ("Yoghurt", "Joghurt", 69),
    ("Mineral water", "Mineralwasser", 89),
    ("Chocolate", "Schokolade", 139),
    ("Pasta 500 g", "Nudeln 500 g", 149),
    ("Dish soap", "Spülmittel", 179),
    ("Paper towels", "Küchenrolle", 299),
)
SERVICES: Goods = (
    ("Copy paper, box", "Kopierpapier, Karton", 2490),
    ("Toner cartridge", "Tonerkartusche", 8990),
    ("Desk chair", "Bürostuhl", 18900),
    ("Installation, hours", "Montage, Stunden", 7800),
    ("Travel flat rate", "Anfahrtspauschale", 4500),
    ("Network cable 10 m", "Netzwerkkabel 10 m", 1290),
    ("Maintenance, quarterly", "Wartung, vierteljährlich", 24900),
    ("LED lamp", "LED-Leuchte", 3995),
    ("Examination couch", "Untersuchungsliege", 64900),
    ("Disposable gloves, box", "Einmalhandschuhe, Karton", 1195),
    ("Software licence", "Softwarelizenz", 12900),
    ("Consulting, hours", "Beratung, Stunden", 11500),
    ("Printed forms, 500", "Vordrucke, 500 St.", 5650),
    ("Storage shelf", "Lagerregal", 9900),
    ("Delivery", "Lieferung", 1490),
)

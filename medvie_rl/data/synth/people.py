"""Invented people, institutions, addresses and numbers: no real name is meant, and every telephone number is fiction.

Family names and towns are composed of syllables. Telephone numbers come from ranges that regulators keep free for
fiction (555-01xx in North America, 030 23125 xxx and its like in Germany); web addresses end in `.example`.
"""

import random
from dataclasses import dataclass
from datetime import date
from typing import Literal

Sex = Literal["female", "male"]


def _words(text: str) -> list[str]:
    return text.split()


_GIVEN: dict[str, dict[Sex, list[str]]] = {
    "en": {
        "female": _words(
            """
            Adele Beth Carys Della Edna Fern Gwen Hazel Ivy Joan Kerry Lorna Mabel Nell Opal Pearl Rhoda Sadie Tess Una
            Verity Willa Zara Amina Bianca Chiara Deepa Esther Farah Ines Keiko Leila Mei Noor Odile Priya Rosalind
            Sunita Thandi Yuki Marjorie Philippa Winifred Ottilie
            """
        ),
        "male": _words(
            """
            Alden Boyd Clive Dale Edgar Floyd Glen Hugh Ira Jarvis Keith Lyle Miles Ned Owen Percy Quinn Rufus Silas
            Todd Upton Vance Wade Amit Bruno Cyrus Dmitri Enzo Farid Hiro Idris Kofi Luca Mateo Nikhil Omar Pablo Rashid
            Stefan Tomas Barnaby Cedric Mortimer Leopold
            """
        ),
    },
    "de": {
        "female": _words(
            """
            Agathe Birte Cora Dörte Elke Frauke Gesa Heike Imke Jutta Kerstin Lieselotte Maren Nele Ortrud Petra Renate
            Silke Tilda Ulrike Veronika Wiebke Ayşe Branka Dilara Ewa Irina Jelena Mireille Olena Rosalie Svetlana
            Theresia Walburga Käthe Änne
            """
        ),
        "male": _words(
            """
            Arndt Bernd Cord Detlef Eike Fiete Gernot Holger Ingo Jörg Klaus Lothar Manfred Norbert Otmar Peer Rainer
            Sönke Till Uwe Volker Wolfram Ahmet Bogdan Emre Goran Ivo Janusz Marek Orhan Pjotr Wenzel Götz Jürgen Lür
            Benedikt
            """
        ),
    },
    "vi": {
        "female": _words(
            """
            An Bích Châu Dung Hà Hạnh Hoa Hương Lan Liên Mai My Nga Ngọc Nhung Phương Thảo Thu Trang Yến
            """
        ),
        "male": _words(
            """
            Bình Cường Dũng Đạt Đức Hải Hiếu Hùng Khang Khoa Long Minh Nam Phong Quang Sơn Tâm Thành Tuấn Việt
            """
        ),
    },
}
_FAMILY_VI = _words(
    """
    Nguyễn Trần Lê Phạm Hoàng Phan Vũ Đặng Bùi Đỗ Hồ Ngô Dương Lý
    """
)
_MIDDLE_VI = {
    "female": ["Thị", "Ngọc", "Thanh", "Thùy", "Kim", "Bảo"],
    "male": ["Văn", "Hữu", "Đức", "Minh", "Quốc", "Gia"],
}
_FAMILY: dict[str, tuple[list[str], list[str]]] = {
    "en": (
        _words(
            """
            Ald Ash Barn Brack Cald Cran Dray Dun Eld Elm Fair Farn Gren Hax Hol Ket Kirk Lang Lin Marl Mel Nor Oak Orm
            Pem Quar Rad Rav Sel Stan Thorn Tarr Und Wex Whit Yar
            """
        ),
        _words(
            """
            bourne combe croft dale den field ford gate ham hurst ley low mere more ridge shaw stead thorpe wick
            """
        ),
    ),
    "de": (
        _words(
            """
            Alm Bir Brams Dorn Eber Eschen Falken Gers Grün Hager Heiden Kall Kirn Lauf Linden Mers Mühl Nieder Ober
            Oller Plau Rett Rosen Sand Schön Stein Tann Uhlen Vell Wies Zorn
            """
        ),
        _words(
            """
            bacher berger brink dorfer egger felder hauer hofer horst kamp leitner loher moser reuter rieder stetter
            """
        ),
    ),
}
_TOWNS = {
    "en": (
        _words(
            """
            ton bridge port haven minster bury wold cliffe mouth stow
            """
        ),
        ["Upper ", "Lower ", "Great ", "", "", "", ""],
    ),
    "de": (
        _words(
            """
            heim hausen dorf bach burg au rode stedt weiler ingen
            """
        ),
        ["Bad ", "Alt ", "Neu ", "", "", "", ""],
    ),
}
_STREETS = {
    "en": _words(
        """
            Alder Beacon Canal Chapel Copper Fountain Juniper Kiln Lantern Meadow Orchard Quarry Saddler Tannery
            """
    ),
    "de": _words(
        """
            Ahorn Birken Brunnen Eichen Flieder Garten Holunder Kastanien Linden Mühlen Rosen Ufer Wiesen Weiden
            """
    ),
    "vi": ["Hoa Sen", "Hoa Cúc", "Bến Cũ", "Cây Đa", "Suối Mơ", "Đồi Thông"],
}
_ROADS = {
    "en": ["Street", "Road", "Lane", "Avenue", "Way", "Close"],
    "de": ["straße", "weg", "gasse", "allee", "ring", "platz"],
}
_GERMAN_FICTION = ("030 23125", "069 90009", "040 66969", "0221 4710", "089 99998")
_INSTITUTIONS = {
    "hospital": {
        "en": "{t} General Hospital,St. {g} Hospital,{t} University Hospital,{t} Memorial Hospital,{t} Medical Center",
        "de": "Klinikum {t},Krankenhaus {t},Universitätsklinikum {t},St.-{g}-Krankenhaus {t},Kreisklinik {t}",
        "vi": "Bệnh viện Đa khoa {t},Bệnh viện {t},Phòng khám Đa khoa {t},Trung tâm Y tế {t}",
    },
    "practice": {
        "en": "{t} Family Practice,{f} & {g2} Surgery,{t} Health Centre,The {s} Practice,{t} Primary Care",
        "de": "Praxis {f},Hausarztpraxis {t},Gemeinschaftspraxis {f} und {f2},MVZ {t},Praxis am {s}platz",
        "vi": "Phòng khám {t},Phòng khám Gia đình {t},Phòng khám Nội {t},Trạm Y tế {t}",
    },
    "laboratory": {
        "en": "{t} Clinical Laboratories,{f} Diagnostics,{t} Pathology Services,{s} Laboratory,{t} Reference Lab",
        "de": "Labor {f},Medizinisches Labor {t},Laborgemeinschaft {t},{f} Diagnostik,Labormedizin {t}",
    },
    "radiology": {
        "en": "{t} Imaging Center,{t} Radiology,{s} Diagnostic Imaging,Department of Radiology {t}",
        "de": "Radiologie {t},Radiologische Praxis {f},Röntgeninstitut {t},Diagnostikzentrum {t}",
    },
    "pathology": {
        "en": "{t} Histopathology,Institute of Pathology {t},{f} Pathology Associates,{t} Tissue Diagnostics",
        "de": "Institut für Pathologie {t},Pathologie {t},Gemeinschaftspraxis für Pathologie {t},Pathologie {f}",
    },
    "dermatology": {
        "en": "{t} Dermatology,{s} Skin Clinic,{f} Dermatology Associates,{t} Skin Centre",
        "de": "Hautarztpraxis {f},Hautklinik {t},Dermatologie {t},Hautzentrum am {s}platz",
    },
    "pharmacy": {
        "en": "{s} Pharmacy,{t} Chemist,{f} Drugstore,{t} Village Pharmacy",
        "de": "{s}-Apotheke,Apotheke am {s}platz,{t}er Apotheke,Stadt-Apotheke {t}",
    },
    "shop": {
        "en": "{s} Market,{t} Groceries,{f} & Sons Stores,{s} Corner Shop,{t} Fresh Foods",
        "de": "{s}markt,Kaufhaus {f},Frischmarkt {t},Lebensmittel {f},Markthalle {t}",
    },
    "company": {
        "en": "{f} Supplies Ltd,{t} Technical Services,{s} Office Systems,{f} & {g2} LLC,{t} Print Works",
        "de": "{f} Technik GmbH,{t}er Bürobedarf GmbH,{f} & {f2} OHG,{s}werk GmbH,Handwerksbetrieb {f}",
    },
}


_SEXES: tuple[Sex, ...] = ("female", "male")


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody invented."""

    given: str
    family: str
    sex: Sex
    birth_date: date
    family_first: bool = False  # as in Vietnamese names

    def age_on(self, day: date) -> int:
        """Completed years of age on `day`."""
        before_birthday = (day.month, day.day) < (self.birth_date.month, self.birth_date.day)
        return day.year - self.birth_date.year - before_birthday

    @property
    def name(self) -> str:
        """The name in the usual order."""
        return f"{self.family} {self.given}" if self.family_first else f"{self.given} {self.family}"

    def printed_name(self, rng: random.Random) -> str:
        """The name in one of the ways in which forms print it."""
        if self.family_first:
            return rng.choice((self.name, self.name.upper()))
        ways = (self.name, self.name, f"{self.family}, {self.given}", f"{self.family.upper()}, {self.given}")
        return rng.choice(ways)


def make_person(
    rng: random.Random, language: str, today: date, *, ages: tuple[int, int] = (18, 91), sex: Sex | None = None
) -> Person:
    """Somebody whose age on `today` lies within `ages` (years, both ends included)."""
    chosen: Sex = rng.choice(_SEXES) if sex is None else sex
    age = min(rng.randint(*ages), rng.randint(*ages) + 25)
    born = date.fromordinal(today.toordinal() - round(age * 365.2425) - rng.randint(1, 360))
    given = rng.choice(_GIVEN[language][chosen])
    if language == "vi":
        given = f"{rng.choice(_MIDDLE_VI[chosen])} {given}"
        return Person(given=given, family=rng.choice(_FAMILY_VI), sex=chosen, birth_date=born, family_first=True)
    return Person(given=given, family=family_name(rng, language), sex=chosen, birth_date=born)


def make_doctor(rng: random.Random, language: str) -> str:
    """The name of a doctor, without a title."""
    return make_person(rng, language, date(2020, 1, 1)).name


def family_name(rng: random.Random, language: str) -> str:
    """A family name made of syllables; one of the common ones in Vietnamese, where a few are everybody's."""
    if language == "vi":
        return rng.choice(_FAMILY_VI)
    return "".join(map(rng.choice, _FAMILY[language]))


def town(rng: random.Random, language: str) -> str:
    """A town that is on no map on purpose."""
    if language == "vi":
        return f"{rng.choice(('Tân', 'Phú', 'An', 'Bình'))} {rng.choice(('Mộc', 'Sa', 'Vân', 'Liễu', 'Thạch'))}"
    endings, beginnings = _TOWNS[language]
    return rng.choice(beginnings) + rng.choice(_FAMILY[language][0]) + rng.choice(endings)


def address(rng: random.Random, language: str) -> str:
    """Street, number and town in one line; postal codes are ones that nobody has been given."""
    number = rng.randint(1, 240)
    street = rng.choice(_STREETS[language])
    if language == "de":
        return f"{street}{rng.choice(_ROADS['de'])} {number}, 00{rng.randint(100, 999)} {town(rng, language)}"
    if language == "vi":
        return f"Số {number} đường {street}, {town(rng, language)}"
    return f"{number} {street} {rng.choice(_ROADS['en'])}, {town(rng, language)}, ZZ 00{rng.randint(100, 999)}"


def telephone(rng: random.Random, language: str) -> str:
    """A telephone number from a range kept free for fiction."""
    if language == "de":
        return f"{rng.choice(_GERMAN_FICTION)} {rng.randint(0, 999):03d}"
    if language == "vi":
        return f"(000) 555 01{rng.randint(0, 99):02d}"
    return f"({rng.randint(201, 989)}) 555-01{rng.randint(0, 99):02d}"


def record_number(rng: random.Random) -> str:
    """A number of a record, a case or an account."""
    digits = f"{rng.randint(0, 9_999_999):07d}"
    ways = (
        digits,
        f"{rng.choice('ABCKMPR')}{digits}",
        f"{digits[:2]}-{digits[2:]}",
        f"{rng.randint(10, 25)}/{digits[:5]}",
    )
    return rng.choice(ways)


def institution(rng: random.Random, language: str, sort: str) -> str:
    """The name of an institution of a sort: hospital, practice, laboratory, radiology, pharmacy, shop and more."""
    pattern = rng.choice(_INSTITUTIONS[sort][language].split(","))
    names = {"t": town(rng, language), "g": rng.choice(_GIVEN[language]["female"]), "s": rng.choice(_STREETS[language])}
    names |= {key: family_name(rng, language) for key in ("f", "f2", "g2")}
    return pattern.format(**names)


def contact_lines(rng: random.Random, language: str) -> tuple[str, ...]:
    """Lines below the name in a letterhead."""
    words = {"en": ("Tel.", "Phone", "Fax"), "de": ("Tel.", "Telefon", "Fax"), "vi": ("ĐT:", "Điện thoại:", "Fax:")}[
        language
    ]
    lines = [address(rng, language), f"{rng.choice(words[:2])} {telephone(rng, language)}"]
    if rng.random() < 0.3:
        lines[1] += f"  {words[2]} {telephone(rng, language)}"
    if rng.random() < 0.4:
        lines.append(f"www.{rng.choice(('clinic', 'health', 'care', 'med'))}{rng.randint(10, 99)}.example")
    return tuple(lines)

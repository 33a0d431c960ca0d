"""Receipts and invoices: documents unlike medical ones, whose sums add up to the cent."""

import random
from dataclasses import dataclass
from typing import Any

from medvie_rl.data.synth.blocks import Block, Content, Letterhead, Pair, Pairs, Paragraph, TableBlock, Title
from medvie_rl.data.synth.kinds.draft import Draft, days_later, random_day
from medvie_rl.data.synth.people import address, contact_lines, institution, record_number
from medvie_rl.data.synth.words_goods import GROCERIES, PHARMACY, SERVICES, Goods

LANGUAGES = ("en", "de")
_LEFT_OUT_RECEIPT = {
    "merchant": 0.1,
    "receipt_number": 0.25,
    "bought_at": 0.1,
    "subtotal": 0.4,
    "tax_rate": 0.35,
    "tax": 0.3,
    "paid_with": 0.3,
    "cash": 0.2,
    "change": 0.1,
}
_LEFT_OUT_INVOICE = {"customer": 0.1, "due_date": 0.35, "subtotal": 0.15, "tax_rate": 0.3, "tax": 0.15, "seller": 0.1}
_RATES = {"en": (5, 8, 20), "de": (7, 19)}
_CASH = {"en": "Cash", "de": "Bar"}
_CARDS = {"en": ("Card", "Debit card", "Contactless"), "de": ("Karte", "Girocard", "EC-Karte")}
_TITLES = {"en": ("Invoice", "INVOICE", "Tax invoice"), "de": ("Rechnung", "RECHNUNG")}
_THANKS = {
    "en": ("Thank you for your purchase!", "Please keep this receipt."),
    "de": ("Vielen Dank für Ihren Einkauf!", "Umtausch nur mit Bon."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    item: str
    quantity: int
    price: int  # cents

    @property
    def amount(self) -> int:
        return self.quantity * self.price


def receipt(rng: random.Random, language: str) -> Content:
    """A till receipt with gross prices: the tax is contained in the total, and cash less the total is the change."""
    draft = Draft(rng, language, left_out=_LEFT_OUT_RECEIPT)
    sort = rng.choice(("pharmacy", "shop", "shop"))
    lines = _lines(draft, PHARMACY if sort == "pharmacy" else GROCERIES, most=12)
    total, rate = sum(line.amount for line in lines), rng.choice(_RATES[language])
    net = round(total * 100 / (100 + rate))
    merchant = institution(rng, language, sort)
    letterhead = None
    if draft.keeps("merchant"):
        draft.annotation["merchant"] = merchant
        letterhead = Letterhead(name=merchant, lines=contact_lines(rng, language)[:2])
    time = f"{rng.randint(8, 20):02d}:{rng.randint(0, 59):02d}"
    heads = draft.pair("receipt_number", record_number(rng))
    heads += draft.pair("bought_at", f"{draft.day(random_day(rng))} {time}")
    blocks: list[Block] = [Pairs(pairs=tuple(heads))] if heads else []
    blocks += [_table(draft, lines), Pairs(pairs=tuple(_sums(draft, net=net, rate=rate, total=total)))]
    paid = _payment(draft, total)
    blocks += [Pairs(pairs=tuple(paid))] if paid else []
    return Content(
        kind="receipt",
        document_type="till receipt",
        specialty="",
        language=language,
        schema="receipt",
        letterhead=letterhead,
        blocks=tuple(blocks),
        annotation=draft.annotation,
        footer=rng.choice(_THANKS[language]) if rng.random() < 0.7 else "",
        narrow=True,
    )


def invoice(rng: random.Random, language: str) -> Content:
    """An invoice with net prices, on which the tax is put."""
    draft = Draft(rng, language, order="ymd", left_out=_LEFT_OUT_INVOICE)
    lines = _lines(draft, SERVICES, most=8)
    net, rate = sum(line.amount for line in lines), rng.choice(_RATES[language])
    day, seller = random_day(rng), institution(rng, language, "company")
    letterhead = None
    if draft.keeps("seller"):
        draft.annotation["seller"] = seller
        letterhead = Letterhead(name=seller, lines=contact_lines(rng, language))
    sort = rng.choice(("practice", "hospital", "company", "laboratory"))
    heads = [
        draft.pair("customer", institution(rng, language, sort)),
        draft.pair("invoice_number", record_number(rng)),
        draft.pair("invoice_date", draft.day(day))
        + draft.pair("due_date", draft.day(days_later(day, rng.choice((7, 14, 30))))),
    ]
    if "customer" in draft.annotation:
        heads[0].append(Pair(label="", value=address(rng, language)))
    total = net + round(net * rate / 100)
    blocks: list[Block] = [Title(text=rng.choice(_TITLES[language])), Pairs(pairs=draft.shuffled(heads))]
    blocks += [_table(draft, lines), Pairs(pairs=tuple(_sums(draft, net=net, rate=rate, total=total)))]
    if rng.random() < 0.4:
        words = {"en": "All amounts in dollars.", "de": "Alle Beträge in Euro."}[language]
        blocks.append(Paragraph(title="", text=words))
    return Content(
        kind="invoice",
        document_type="invoice",
        specialty="",
        language=language,
        schema="invoice",
        letterhead=letterhead,
        blocks=tuple(blocks),
        annotation=draft.annotation,
    )


def _lines(draft: Draft, goods: Goods, *, most: int) -> list[_Line]:
    rng, at = draft.rng, 0 if draft.language == "en" else 1
    chosen = rng.sample(goods, rng.randint(1, min(most, len(goods))))
    return [
        _Line(
            item=str(good[at]),
            quantity=rng.choice((1, 1, 1, 2, 3, 5)),
            price=max(19, round(good[2] * rng.uniform(0.8, 1.3))),
        )
        for good in chosen
    ]


def _table(draft: Draft, lines: list[_Line]) -> TableBlock:
    rng = draft.rng
    keys = ["item", "quantity", "unit_price", "amount"]
    if rng.random() < 0.25:
        keys.remove("unit_price")
    if "unit_price" in keys and rng.random() < 0.2:
        keys = ["quantity", "item", "unit_price", "amount"]
    rows: list[dict[str, Any]] = []
    for line in lines:
        cells = {"item": line.item, "quantity": str(line.quantity)}
        cells |= {"unit_price": draft.money(line.price), "amount": draft.money(line.amount)}
        rows.append({key: cells[key] for key in keys})
    draft.annotation["items"] = rows
    return TableBlock(
        columns=tuple(draft.heading("count" if key == "quantity" else key) for key in keys),
        rows=tuple(tuple(row.values()) for row in rows),
        numeric_columns=frozenset(index for index, key in enumerate(keys) if key != "item"),
    )


def _sums(draft: Draft, *, net: int, rate: int, total: int) -> list[Pair]:
    pairs = draft.pair("subtotal", draft.money(net)) + draft.pair(
        "tax_rate", f"{rate}%" if draft.language == "en" else f"{rate} %"
    )
    pairs += draft.pair("tax", draft.money(total - net))
    draft.annotation["total"] = draft.money(total)
    return [*pairs, Pair(label=draft.label("total"), value=draft.annotation["total"], emphasis="bold")]


def _payment(draft: Draft, total: int) -> list[Pair]:
    rng, language = draft.rng, draft.language
    if rng.random() < 0.5:
        return draft.pair("paid_with", rng.choice(_CARDS[language]))
    given = -(-total // 500) * 500 + rng.choice((0, 0, 500, 1000))
    pairs = draft.pair("paid_with", _CASH[language]) + draft.pair("cash", draft.money(given))
    return pairs + (draft.pair("change", draft.money(given - total)) if "cash" in draft.annotation else [])

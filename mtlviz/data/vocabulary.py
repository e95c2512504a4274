"""The words of the made product listings: departments, nouns, brands, materials, colours, sizes and phrases."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Department:
    """What the products of a department have in common.

    sold_by: the unit of measurement of each qualifier: "w"eight, "v"olume or "c"ount. sizes: how goods that are sold by
    count are sized, a key of SIZES. style: "colour" or "flavour". parts: what a listing may come with.
    """

    qualifiers: tuple[str, ...]
    sold_by: str
    sizes: str
    style: str
    parts: tuple[str, ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _department(qualifiers: str, sold_by: str, sizes: str, style: str, parts: str) -> Department:
    return Department(_words(qualifiers), sold_by, sizes, style, _words(parts))


DEPARTMENTS = {
    "kitchen": _department(
        "electric stovetop travel nonstick insulated vintage compact professional",
        "cccccccc",
        "capacity",
        "colour",
        "lid handle spout timer thermometer strainer base cord stand sleeve hook tray rack cover gauge clip",
    ),
    "home": _department(
        "modern rustic folding padded hanging nordic outdoor adjustable",
        "cccccccc",
        "length",
        "colour",
        "frame legs cushion hooks screws wheels drawer shelf zip lining strap hinges castors glides bracket piping",
    ),
    "clothing": _department(
        "slim casual thermal quilted hooded sleeveless striped waterproof",
        "cccccccc",
        "letters",
        "colour",
        "pockets hood zip buttons collar cuffs belt lining laces drawstring patches hem studs logo elastic straps",
    ),
    "tools": _department(
        "cordless manual heavy precision telescopic magnetic foldable industrial",
        "cccccccc",
        "length",
        "colour",
        "case battery charger grip blade bits guard holster chuck laser strap level clamp lamp spring socket",
    ),
    "leisure": _department(
        "junior beginner tournament inflatable wooden mini deluxe classic",
        "cccccccc",
        "letters",
        "colour",
        "bag pump net rules cards dice board stickers manual magnets remote charger straps pegs lights whistle",
    ),
    "food": _department(
        "organic smoked roasted wholegrain spicy sliced instant crunchy",
        "wwwwwwcw",
        "letters",
        "flavour",
        "recipe spoon zipper label sachets gluten nuts sugar salt protein fibre iodine seeds honey yeast vitamins",
    ),
    "drink": _department(
        "sparkling cold decaf fruity herbal concentrated alcohol-free powdered",
        "vvvvcvvw",
        "letters",
        "flavour",
        "cork straw cap caffeine sugar pulp bubbles vitamins sweetener tannin bottle label infuser ginger mint foam",
    ),
    "care": _department(
        "moisturising liquid solid mild exfoliating refillable foaming soothing",
        "vvwvwvcv",
        "letters",
        "flavour",
        "pump doser brush sponge parabens silicone alcohol perfume collagen aloe keratin oil filter mirror cap comb",
    ),
}

# A chapter of the made tariff: its name, department, three nouns, and the materials its goods are of or packed in.
CHAPTERS: tuple[tuple[str, str, tuple[str, str, str], str], ...] = tuple(
    (name, department, tuple(nouns.split()), materials)  # type: ignore[misc]
    for name, department, nouns, materials in (
        ("vessels", "kitchen", "kettle teapot jug", "steel glass ceramic silicone cotton"),
        ("pans", "kitchen", "saucepan wok casserole", "steel aluminium brass bamboo linen"),
        ("machines", "kitchen", "blender toaster juicer", "steel plastic aluminium glass cotton"),
        ("cutlery", "kitchen", "knife ladle spatula", "steel bamboo silicone oak leather"),
        ("tableware", "kitchen", "mug bowl platter", "ceramic glass bamboo plastic linen"),
        ("flasks", "kitchen", "bottle flask lunchbox", "steel plastic glass silicone wool"),
        ("seats", "home", "chair stool bench", "oak steel leather plastic cotton"),
        ("tables", "home", "desk table sideboard", "oak bamboo steel glass linen"),
        ("lamps", "home", "lamp lantern chandelier", "brass glass paper oak cotton"),
        ("bedding", "home", "duvet pillow blanket", "cotton wool linen bamboo glass"),
        ("curtains", "home", "curtain rug tablecloth", "linen wool polyester paper brass"),
        ("storage", "home", "basket crate wardrobe", "bamboo plastic steel cotton oak"),
        ("tops", "clothing", "shirt sweater blouse", "cotton wool linen bamboo aluminium"),
        ("coats", "clothing", "jacket coat waistcoat", "wool leather polyester paper steel"),
        ("legwear", "clothing", "trousers leggings shorts", "cotton polyester linen silicone brass"),
        ("footwear", "clothing", "boot sandal slipper", "leather wool plastic cotton steel"),
        ("bags", "clothing", "backpack handbag wallet", "leather polyester cotton paper steel"),
        ("handtools", "tools", "hammer wrench screwdriver", "steel oak plastic aluminium leather"),
        ("machinery", "tools", "drill sander saw", "steel aluminium plastic brass cotton"),
        ("gardening", "tools", "rake shovel trowel", "steel oak bamboo aluminium cotton"),
        ("fittings", "tools", "tap valve hinge", "brass steel plastic ceramic leather"),
        ("balls", "leisure", "football basketball shuttlecock", "leather plastic polyester steel paper"),
        ("toys", "leisure", "puzzle robot dollhouse", "oak plastic paper cotton aluminium"),
        ("camping", "leisure", "tent hammock cooler", "polyester cotton aluminium plastic steel"),
        ("grains", "food", "rice pasta muesli", "paper plastic cotton glass aluminium"),
        ("snacks", "food", "almonds crackers chocolate", "paper plastic aluminium linen glass"),
        ("spreads", "food", "jam mustard hummus", "glass plastic aluminium cotton paper"),
        ("hot drinks", "drink", "coffee tea cocoa", "aluminium paper cotton glass plastic"),
        ("soft drinks", "drink", "lemonade juice cider", "glass plastic aluminium linen paper"),
        ("toiletries", "care", "soap shampoo lotion", "plastic paper glass cotton silicone"),
        ("cosmetics", "care", "mascara toothpaste perfume", "glass plastic brass silicone linen"),
    )
)

# Three kinds of material; a chapter and the kind of material make a tariff class: 31 × 3 = 93.
MATERIALS = {
    "textile": ("cotton", "wool", "linen", "leather", "polyester"),
    "mineral": ("steel", "aluminium", "brass", "glass", "ceramic"),
    "other": ("plastic", "silicone", "bamboo", "oak", "paper"),
}

# Groups of three that shoppers hardly tell apart; each with another wording.
STYLES = {
    "colour": (
        ("black", "jet black"), ("anthracite", "charcoal"), ("dark grey", "dark gray"),
        ("white", "pure white"), ("ivory", "off white"), ("cream", "creme"),
        ("red", "bright red"), ("crimson", "carmine"), ("burgundy", "wine red"),
        ("navy", "navy blue"), ("royal blue", "cobalt"), ("indigo", "deep blue"),
        ("green", "grass green"), ("emerald", "jade"), ("olive", "khaki"),
        ("yellow", "sun yellow"), ("mustard", "ochre"), ("gold", "golden"),
        ("pink", "rose"), ("magenta", "fuchsia"), ("coral", "salmon"),
        ("brown", "chestnut"), ("beige", "sand"), ("camel", "tan"),
    ),
    "flavour": (
        ("lemon", "citron"), ("lime", "key lime"), ("orange", "tangerine"),
        ("strawberry", "wild strawberry"), ("raspberry", "razzberry"), ("cherry", "sour cherry"),
        ("vanilla", "bourbon vanilla"), ("caramel", "toffee"), ("honeycomb", "wild honey"),
        ("lavender", "lavandin"), ("jasmine", "white jasmine"), ("violet", "parma violet"),
        ("peppermint", "mint"), ("eucalyptus", "gum leaf"), ("menthol", "icy menthol"),
        ("cinnamon", "cassia"), ("nutmeg", "muscat nut"), ("clove", "cloves"),
        ("coconut", "coco"), ("mango", "alphonso"), ("pineapple", "ananas"),
        ("hazelnut", "filbert"), ("almond", "marzipan"), ("pistachio", "pistache"),
    ),
}  # fmt: skip

# Six sizes a kind, each in three wordings.
SIZES = {
    "letters": (
        ("xs", "extra small", "size xs"), ("s", "small", "size s"), ("m", "medium", "size m"),
        ("l", "large", "size l"), ("xl", "extra large", "size xl"), ("xxl", "2xl", "size xxl"),
    ),
    "length": tuple((f"{n} cm", f"{n}cm", f"{10 * n} mm") for n in (20, 25, 30, 40, 60, 90)),
    "capacity": tuple((f"{n} ml", f"{n}ml", f"{n / 1000:g} l") for n in (250, 500, 750, 1000, 1500, 2000)),
    "weight": tuple((f"{n} g", f"{n}g", f"{n / 1000:g} kg") for n in (100, 250, 400, 500, 750, 1000)),
}  # fmt: skip
PACKS = (1, 2, 3, 4, 6, 12)
PACK_WORDINGS = ("pack of {}", "{} pack", "set of {}", "{} pcs", "x{}")
UNITS = ("weight", "volume", "count")

FEATURES = _words(
    "dishwasher-safe recyclable handmade lightweight stackable odourless hypoallergenic anti-slip washable "
    "rechargeable fairtrade vegan fireproof scratch-resistant child-safe biodegradable limited-edition silent"
)
FILLERS = ("", "", "", "new", "premium", "best quality", "gift idea", "top offer", "original", "free delivery", "sale")
BRANDS = tuple(
    first + last
    for first in _words("nor vel kam tri bex lun sor fen quil har dov mak zel pra win tol gar ost jul rem")
    for last in _words("dora vik lino mont ella stad rix umo bery tano fjell sia")
)

NOUNS = tuple(noun for _, _, nouns, _ in CHAPTERS for noun in nouns)  # 93; noun n belongs to chapter n // 3
MATERIAL_NAMES = tuple(name for names in MATERIALS.values() for name in names)  # 15; kind = index // 5
TYPES = tuple((noun, q) for q in range(8) for noun in range(len(NOUNS)))[:709]  # each noun with 7 or 8 qualifiers
TARIFFS = tuple(f"{name}, {kind}" for name, _, _, _ in CHAPTERS for kind in MATERIALS)
NOUN_PARTS = 14  # parts that are attributes of a noun, of the 16 of its department


def department_of(noun: int) -> Department:
    """The department that a noun (0 to 92) belongs to."""
    return DEPARTMENTS[CHAPTERS[noun // 3][1]]


def type_name(number: int) -> str:
    """What product type `number` (0 to 708) is called."""
    noun, qualifier = TYPES[number]
    return f"{department_of(noun).qualifiers[qualifier]} {NOUNS[noun]}"


def parts_of(noun: int) -> tuple[str, ...]:
    """The 14 parts that are attributes of a noun; another 14 of the department's 16 for each noun of a chapter."""
    parts = department_of(noun).parts
    return tuple(parts[(noun + k) % len(parts)] for k in range(NOUN_PARTS))


# The attributes a listing may have: those of the nouns, then colours, materials and features: 93·14 + 24 + 15 + 18.
ATTRIBUTES = (
    *(f"{noun}: {part}" for n, noun in enumerate(NOUNS) for part in parts_of(n)),
    *(f"colour: {name}" for name, _ in STYLES["colour"]),
    *(f"material: {name}" for name in MATERIAL_NAMES),
    *(f"feature: {name}" for name in FEATURES),
)

# SPDX-License-Identifier: Apache-2.0
"""Text in many scripts, without a network: sentences of our own, ICU's names of countries and languages (the CLDR,
in every locale that we name), and the English that comes with Python."""

import ctypes
import ctypes.util
import itertools
import random
import re

# Own words; the tests draw strings from these too.
SENTENCES = {
    "en": [
        "A small red fox runs across the snowy field at sunrise.",
        "Two old fishermen mend their nets beside a quiet harbour while gulls circle above.",
        "The camera slowly pans over a city of glass towers glowing in the evening rain.",
        "Close-up of a watchmaker's hands; golden light, shallow depth of field, 35mm film.",
        "An astronaut waters tomatoes in a greenhouse on Mars, with dust storms outside.",
    ],
    "de": [
        "Ein kleiner Fuchs läuft bei Sonnenaufgang über das verschneite Feld.",
        "Die Straßenbahn fährt langsam durch die nächtliche Großstadt, während es regnet.",
        "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
    ],
    "fr": [
        "Un petit renard traverse le champ enneigé au lever du soleil.",
        "L'été dernier, nous avons mangé des crêpes près de la forêt, où chantait un œil-de-bœuf.",
        "La caméra s'élève doucement au-dessus des toits de la vieille ville.",
    ],
    "es": [
        "Un pequeño zorro cruza el campo nevado al amanecer.",
        "¿Dónde está el niño que pintó la montaña con colores tan vivos?",
        "El pingüino Wenceslao hizo kilómetros bajo exhaustiva lluvia y frío.",
    ],
    "pt": [
        "Uma raposa pequena atravessa o campo coberto de neve ao nascer do sol.",
        "As crianças não querem ir à praia porque amanhã haverá tempestade.",
    ],
    "pl": ["Mały lis biegnie przez zaśnieżone pole o wschodzie słońca.", "Zażółć gęślą jaźń, rzekł wąż."],
    "cs": ["Malá liška běží přes zasněžené pole za úsvitu.", "Příliš žluťoučký kůň úpěl ďábelské ódy."],
    "tr": [
        "Küçük bir tilki gün doğarken karlı tarlada koşuyor.",
        "İstanbul'da ışıklar söndü, sokaklar bomboş kaldı ve yağmur başladı.",
    ],
    "vi": [
        "Một con cáo nhỏ chạy qua cánh đồng tuyết lúc bình minh.",
        "Những chiếc thuyền đánh cá trở về bến cảng yên tĩnh trong ánh hoàng hôn.",
    ],
    "ru": [
        "Маленькая лиса бежит по заснеженному полю на рассвете.",
        "Съешь же ещё этих мягких французских булок, да выпей чаю.",
        "Камера медленно скользит над ночным городом, где идёт дождь.",
    ],
    "uk": ["Маленька лисиця біжить засніженим полем на світанку.", "Щастям б'єш жук їх глицю в фон й ґедзь пріч."],
    "el": [
        "Μια μικρή αλεπού τρέχει στο χιονισμένο χωράφι την αυγή.",
        "Η θάλασσα ήταν ήρεμη και ο ουρανός γεμάτος αστέρια.",
    ],
    "ar": [
        "ثعلب صغير يركض عبر الحقل المغطى بالثلج عند شروق الشمس.",
        "تتحرك الكاميرا ببطء فوق المدينة القديمة في المساء.",
    ],
    "he": [
        "שועל קטן רץ בשדה המושלג עם הזריחה.",
        "המצלמה נעה לאט מעל גגות העיר העתיקה.",
    ],
    "fa": ["روباه کوچکی هنگام طلوع خورشید در دشت برفی می‌دود."],
    "hi": [
        "एक छोटी लोमड़ी सूर्योदय के समय बर्फीले मैदान में दौड़ रही है।",
        "बारिश की रात में शहर की रोशनी पानी पर चमकती है।",
    ],
    "bn": ["সূর্যোদয়ের সময় একটি ছোট শিয়াল তুষারময় মাঠ পেরিয়ে দৌড়ায়।"],
    "ta": ["சூரிய உதயத்தில் ஒரு சிறிய நரி பனி வயலில் ஓடுகிறது."],
    "te": ["సూర్యోదయ సమయంలో ఒక చిన్న నక్క మంచు పొలంలో పరుగెత్తుతోంది."],
    "th": ["สุนัขจิ้งจอกตัวเล็กวิ่งข้ามทุ่งหิมะตอนพระอาทิตย์ขึ้น", "กล้องเคลื่อนช้า ๆ เหนือเมืองในยามค่ำคืนที่ฝนตก"],
    "ka": ["პატარა მელა მზის ამოსვლისას თოვლიან მინდორში გარბის."],
    "hy": ["Փոքրիկ աղվեսը արևածագին վազում է ձյունոտ դաշտով։"],
    "am": ["ትንሽ ቀበሮ በፀሐይ መውጫ በበረዶ ሜዳ ላይ ትሮጣለች።"],
    "zh": [
        "一只小狐狸在日出时跑过白雪覆盖的田野。",
        "镜头缓缓掠过雨夜中的城市，霓虹灯映在湿漉漉的街道上。",
        "两位老渔夫在安静的港口修补渔网，海鸥在空中盘旋。",
    ],
    "ja": [
        "小さな狐が日の出の雪原を駆け抜ける。",
        "カメラは雨に濡れた夜の街をゆっくりと進み、ネオンが水たまりに映る。",
        "いろはにほへと ちりぬるを わかよたれそ つねならむ",
    ],
    "ko": [
        "작은 여우가 해 뜰 무렵 눈 덮인 들판을 가로질러 달린다.",
        "카메라가 비 오는 밤의 도시 위를 천천히 지나간다.",
        "다람쥐 헌 쳇바퀴에 타고파.",
    ],
}

EMOJI = "😀 😂 🥰 😎 🤖 👍 👋 🙏 🎉 🔥 ✨ 🌊 🌅 🦊 🐉 🚀 🎬 📷 🏙 🌧 ❤ 👩 👨 👧 👦 🏳 🌈 ☠ 🏴 💻 🚒 🇩 🇪 🇫 🇷 🇯 🇵 🇧 🇺 🇸 🏽 🏿 🏻".split()

_LOCALES = (
    "en de fr es it pt nl sv da nb fi pl cs sk hu ro tr vi id sw ru uk bg sr el ar he fa ur hi mr ne bn pa gu ta te kn "
    "ml si th lo my km ka hy am ti zh zh_Hant ja ko mn bo dz chr az kk ky uz lt lv et is ga cy eu ca sq mk hr sl"
).split()


class _Icu:
    def __init__(self):
        name = ctypes.util.find_library("icuuc")
        if name is None:
            raise RuntimeError("libicuuc is missing; install libicu-dev")
        self.version = re.search(r"so\.(\d+)", name).group(1)
        self.library = ctypes.CDLL(name)
        self.buffer = (ctypes.c_uint16 * 512)()

    def codes(self, function):
        f = getattr(self.library, f"{function}_{self.version}")
        f.restype = ctypes.POINTER(ctypes.c_char_p)
        return [c.decode() for c in itertools.takewhile(lambda c: c is not None, f())]

    def display(self, function, what, locale):
        f = getattr(self.library, f"{function}_{self.version}")
        status = ctypes.c_int(0)
        n = f(what.encode(), locale.encode(), self.buffer, 512, ctypes.byref(status))
        return bytes(self.buffer)[: 2 * n].decode("utf-16-le")


def _icu_lines():
    icu = _Icu()
    countries = ["und_" + c for c in icu.codes("uloc_getISOCountries")]
    languages = icu.codes("uloc_getISOLanguages")[::2]
    for locale in _LOCALES:
        # A name without a translation falls back to English or to its code: no text of that language.
        english = locale == "en"
        for function, codes in (("uloc_getDisplayCountry", countries), ("uloc_getDisplayLanguage", languages)):
            for code in codes:
                name = icu.display(function, code, locale)
                if name.isascii() and not english and len(name) <= 3:
                    continue
                yield name


def _english_lines():
    import pydoc_data.topics

    for _, text in sorted(pydoc_data.topics.topics.items()):
        for line in text.splitlines():
            if len(line.strip()) > 20:
                yield line.strip()


def english_lines():
    """For small vocabularies, where a thousand pieces would all be letters otherwise."""
    yield from SENTENCES["en"] * 12
    yield from itertools.islice(_english_lines(), 4000)


def lines(seed=7):
    """The training corpus: about 40,000 short lines, the same on every call."""
    rng = random.Random(seed)
    own = [s for sentences in SENTENCES.values() for s in sentences]
    for s in own:
        for _ in range(12):
            words = s.split()
            yield s
            rng.shuffle(words)
            yield " ".join(words)
    yield from _icu_lines()
    yield from itertools.islice(_english_lines(), 4000)
    for _ in range(400):
        yield " ".join(rng.choices(EMOJI, k=6))
        yield f"{rng.randrange(10**rng.randrange(1, 7))} {rng.random():.3f} {rng.randrange(24)}:{rng.randrange(60):02d}"
    # Every kana, Hangul syllable of common parts, and a spread of other letters, so that few characters are unknown.
    for first, last, step in ((0x3041, 0x3097, 1), (0x30A1, 0x30FB, 1), (0xAC00, 0xD7A4, 7), (0x0400, 0x0460, 1),
                              (0x0370, 0x03FF, 1), (0x00A1, 0x0180, 1), (0x4E00, 0x9FA0, 23), (0x2010, 0x2050, 1),
                              (0x2190, 0x2200, 3), (0x0300, 0x0330, 1)):
        letters = [chr(c) for c in range(first, last, step) if chr(c).isprintable()]
        for i in range(0, len(letters), 12):
            for _ in range(3):
                yield " ".join(letters[i : i + 12])


def _odd_strings():
    """White space, control characters, marks, emoji, forms that normalise: what trips a tokenizer up."""
    yield from ("", " ", "   ", "\t", "\n", "\u3000", "\u00a0 \u2003", "\u200b", "\r\n", "▁", "▁▁", "▁ ▁")
    for space in "\t \n \r \r\n \u00a0 \u1680 \u2002 \u2009 \u200b \u200c \u200d \u202f \u205f \u2060 \u3000 \ufeff".split(" "):
        yield f"a red{space}fox{space}{space}runs{space}"
    yield from ("\u2028line\u2029paragraph\x85next", "  leading", "trailing  ", "  both  ", "many    spaces   inside",
                "tab\tand\nnewline\r\nand\x0bvertical\x0cform", "soft\u00adhyphen", "mark▁inside▁words", "▁lead a▁",
                "zero\x00byte", "bell\x07 escape\x1b[31m", "\x01\x02\x03", "del\x7f", "\x80\x9f", "\ufffd", "\ufffe",
                "\ue000 private", "\U000e0001\U000e0041 tags", "\U0010ffff")
    yield from ("é e\u0301 ê\u0323 e\u0302\u0323", "A\u030a Å \u212b", "n\u0303 ñ", "o\u0308\u0304 ȫ", "q\u0307\u0323 q\u0323\u0307",
                "Z\u0351\u036b\u0343\u036a\u0302a\u036b\u033d\u034f\u0321l\u0357\u0309g\u034co", "\u0301 alone", "a\u20dd b\u20e3 1\ufe0f\u20e3",
                "İstanbul I\u0307 ı", "ﬁne ﬂow eﬃcient ﬆ", "Ｆｕｌｌ　ｗｉｄｔｈ １２３！", "ｶﾞｷﾞ ﾊﾟ half width", "①②③ ⑳ ⒈ ㈱ ㌔",
                "x² + y³ = ½ ¾ ⅓", "℃ ™ № ℡ ﬀ …", "Ⅷ ⅷ Ⅻ", "𝐁𝐨𝐥𝐝 𝒮𝒸𝓇𝒾𝓅𝓉 𝔉𝔯𝔞𝔨 𝟙𝟚𝟛", "ﷺ ﷽ لا ﻻ", "שּׁ ש\u05c1\u05bc", "Ǆ ǆ Ĳ ŉ",
                "①\u0301 ﬁ\u0301 ½\u0301 ª\u200d", "한국어 \u1112\u1161\u11ab\u1100\u116e\u11a8 ㅎㅏㄴ ﾡﾢ", "\u1100\u1161\u0301", "가\u11a8 각",
                "क्षत्रिय क\u094d\u200dष क\u094d\u200cष", "क़ ख़ \u0958\u0959", "ক্ষ ড় \u09dc", "கொ க\u0bca", "กำ กํา น้ำ",
                "က္က ခ្មែរ", "ཀྵ བོད", "ᠮᠣᠩᠭᠣᠯ", "ἄνθρωπος ά \u03b1\u0301", "ѐ е\u0300 й и\u0306", "𐍈 𐌰 Ꭰ ᚠ", "\u0897a\u0897")
    yield from ("😀", "😀😃😄 smile", "👍🏽 👋🏿 🙏🏻", "👩‍💻 👨‍👩‍👧‍👦 🏳️‍🌈 🏴‍☠️", "🇩🇪🇫🇷🇯🇵 🇧", "❤️ ❤ ☠︎ ☺️", "👩🏽‍🚒 at work", "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
                "#️⃣ *️⃣ 7️⃣", "🦊 runs 🌅 over 🌊", "a😀b🚀c", "🫨 🩷 🪿 🫩", "©\u200d®\u200d ™️")
    for token in ("</s>", "<pad>", "<unk>", "<extra_id_0>", "<extra_id_5>", "<extra_id_99>", "<extra_id_100>", "<s>", "<mask>"):
        yield from (token, f"a {token} b", f"a{token}b", f" {token} ")
    yield from ("</s></s>", "<extra_id_1><extra_id_2> <extra_id_3>", "< / s >", "</S>", "<extra_id_05>", "</s", "<<extra_id_7>>",
                "＜/s＞ ＜unk＞ ＜extra_id_3＞", "<extra\u200b_id_5>", "</s>\u0301", "é</s>\u0301x", "\u3000<extra_id_4>\u2003\n<extra_id_4>x")
    yield from ("3.14159 1,000,000 1e-5 0x7F", "http://example.org/a?b=c&d=%20#e", "me@example.org", "C++ && || != <=> ->", "$5 €10 £3 ¥100 ₹9",
                "“quoted” ‘text’ «guillemets» „low“ ‹x›", "em—dash en–dash hy‐phen minus−", "¿Qué? ¡Sí!", "、。「」『』・…", "a/b\\c|d", "({[<>]})",
                "don't can't I'll we've", "ALL CAPS lower MiXeD", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "qzxjkvbwpfgh", "a" * 300)


def test_strings(seed=11):
    """At least 200 strings, at most 5 % of whose tokens a vocabulary trained on lines() does not know."""
    rng = random.Random(seed)
    own = [s for sentences in SENTENCES.values() for s in sentences]
    strings = own + list(_odd_strings())
    for _ in range(30):  # scripts mixed within one string
        strings.append(" ".join(rng.choice(rng.choice(own).split()) for _ in range(12)))
    for sentences in SENTENCES.values():  # 1,000 characters
        text = " ".join(sentences)
        strings.append((text + " ") * (1000 // len(text)) + text[: 1000 % (len(text) + 1)])
    strings.append("".join(rng.choices(EMOJI, k=500)))
    strings.append("".join(rng.choice(own)[: rng.randrange(20)] + rng.choice("\t \u3000\n") for _ in range(120)))
    return strings

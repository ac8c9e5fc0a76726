"""Languages as cards name them: ``english``, ``English`` and ``en`` are one language.

A small table instead of a dependency: it holds the languages of the published cards and the larger
ones beyond. An unknown name is kept as it is, so nothing is lost, only not merged.
"""

from __future__ import annotations

import re

_TABLE = """
af Afrikaans|am Amharic|ar Arabic|as Assamese|az Azerbaijani|be Belarusian|bg Bulgarian
bh Bihari|bm Bambara|bn Bengali|bo Tibetan|br Breton|bs Bosnian|bxr Buryat|ca Catalan
cdo Min Dong Chinese|ceb Cebuano|cs Czech|cy Welsh|da Danish|de German|dv Divehi|el Greek
en English|eo Esperanto|es Spanish|et Estonian|eu Basque|fa Persian|ff Fula|fi Finnish
fo Faroese|fr French|fy Western Frisian|ga Irish|gd Scottish Gaelic|gl Galician|gn Guarani
gu Gujarati|ha Hausa|he Hebrew|hi Hindi|hr Croatian|ht Haitian Creole|hu Hungarian|hy Armenian
id Indonesian|ig Igbo|ilo Iloko|is Icelandic|it Italian|ja Japanese|jv Javanese|ka Georgian
kk Kazakh|km Khmer|kn Kannada|ko Korean|ku Kurdish|kv Komi|ky Kyrgyz|la Latin|lb Luxembourgish
lg Ganda|ln Lingala|lo Lao|lt Lithuanian|lv Latvian|mg Malagasy|mhr Meadow Mari|mi Maori
mk Macedonian|ml Malayalam|mn Mongolian|mr Marathi|ms Malay|mt Maltese|my Burmese|myv Erzya
nb Norwegian Bokmål|ne Nepali|nl Dutch|nn Norwegian Nynorsk|no Norwegian|ny Nyanja|om Oromo
or Oriya|pa Punjabi|pl Polish|ps Pashto|pt Portuguese|qu Quechua|ro Romanian|ru Russian
rw Kinyarwanda|sa Sanskrit|sd Sindhi|se Northern Sami|si Sinhala|sk Slovak|sl Slovenian|sn Shona
so Somali|sq Albanian|sr Serbian|st Sesotho|su Sundanese|sv Swedish|sw Swahili|ta Tamil
te Telugu|tg Tajik|th Thai|ti Tigrinya|tk Turkmen|tl Tagalog|tn Tswana|tr Turkish|tt Tatar
ug Uyghur|uk Ukrainian|ur Urdu|uz Uzbek|vi Vietnamese|wo Wolof|xh Xhosa|xmf Mingrelian
yi Yiddish|yo Yoruba|zh Chinese|yue Cantonese|zh_yue Cantonese|zh-yue Cantonese|zu Zulu
"""

NAMES: dict[str, str] = {}
for _entry in _TABLE.replace("\n", "|").split("|"):
    if _entry.strip():
        _code, _, _name = _entry.strip().partition(" ")
        NAMES[_code] = _name

_CODES: dict[str, str] = {}
for _code, _name in NAMES.items():
    _CODES.setdefault(_name.casefold(), _code)

_TAG = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8})*")


def language_code(name: str) -> str:
    """Return the BCP-47 tag for a tag or English name in any case; unknown text in lower case."""
    text = name.strip()
    folded = text.casefold()
    if folded in _CODES:
        return _CODES[folded]
    code = folded.replace("_", "-") if _TAG.fullmatch(text) else folded
    # Two spellings of Cantonese are in use; the shorter is the registered one.
    return "yue" if code == "zh-yue" else code


def language_name(code: str) -> str:
    """Return the English name of a language tag, or the tag itself."""
    return NAMES.get(code, NAMES.get(code.split("-")[0], code))


def split_languages(value: object) -> tuple[str, ...]:
    """Return the language tags in a card value: a name, a comma-separated list, or a list."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        return ()
    codes = [language_code(part) for part in parts if isinstance(part, str) and part.strip()]
    return tuple(dict.fromkeys(codes))

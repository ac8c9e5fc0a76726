"""Licence identifiers: the SPDX names in common use for models and data.

Not the whole SPDX list (600 entries, most never seen on a model); what is missing can be written as
``LicenseRef-<name>`` or ``other``, as SPDX itself provides.
"""

from __future__ import annotations

import re

from adapterhub.errors import did_you_mean

_SPDX = """
0BSD AFL-3.0 AGPL-3.0-only AGPL-3.0-or-later Apache-1.1 Apache-2.0 Artistic-2.0 BSD-2-Clause
BSD-3-Clause BSD-3-Clause-Clear BSD-4-Clause BSL-1.0 CC-BY-2.0 CC-BY-2.5 CC-BY-3.0 CC-BY-4.0
CC-BY-NC-2.0 CC-BY-NC-3.0 CC-BY-NC-4.0 CC-BY-NC-ND-3.0 CC-BY-NC-ND-4.0 CC-BY-NC-SA-2.0
CC-BY-NC-SA-3.0 CC-BY-NC-SA-4.0 CC-BY-ND-4.0 CC-BY-SA-3.0 CC-BY-SA-4.0 CC0-1.0
CDLA-Permissive-1.0 CDLA-Permissive-2.0 CDLA-Sharing-1.0 ECL-2.0 EPL-1.0 EPL-2.0 EUPL-1.1
EUPL-1.2 GFDL-1.3-only GFDL-1.3-or-later GPL-2.0-only GPL-2.0-or-later GPL-3.0-only
GPL-3.0-or-later ISC LGPL-2.1-only LGPL-2.1-or-later LGPL-3.0-only LGPL-3.0-or-later LPPL-1.3c
MIT MIT-0 MPL-2.0 MS-PL NCSA ODbL-1.0 ODC-By-1.0 OFL-1.1 OSL-3.0 PDDL-1.0 PostgreSQL Unlicense
WTFPL Zlib
"""
# Names that model hubs use although SPDX does not list them (or has replaced them).
_COMMON = """
other unknown agpl-3.0 gpl-2.0 gpl-3.0 lgpl-2.1 lgpl-3.0 gfdl-1.3 openrail openrail++ openrail-m
bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m llama2
llama3 llama3.1 llama3.2 llama3.3 gemma
"""
KNOWN: dict[str, str] = {name.lower(): name for name in (_SPDX + _COMMON).split()}
_REFERENCE = re.compile(r"LicenseRef-[A-Za-z0-9.-]+")


def normalize_license(value: str) -> tuple[str, list[str]]:
    """Return the licence expression in canonical spelling, and what is wrong with it.

    ``AND``, ``OR`` and parentheses may join identifiers; case does not matter.
    """
    words = re.findall(r"[()]|[^\s()]+", value)
    result, problems, expect_id, depth = [], [], True, 0
    for word in words:
        if word == "(" and expect_id:
            depth += 1
        elif word == ")" and not expect_id and depth:
            depth -= 1
        elif word.upper() in ("AND", "OR") and not expect_id:
            word, expect_id = word.upper(), True
        elif expect_id and (word.lower() in KNOWN or _REFERENCE.fullmatch(word)):
            word, expect_id = KNOWN.get(word.lower(), word), False
        else:
            hint = did_you_mean(word.lower(), KNOWN)
            problems.append(
                f"licence {word!r} is not an SPDX identifier such as 'Apache-2.0' or 'CC-BY-4.0' "
                f"(else write 'other' or 'LicenseRef-<name>').{hint}"
            )
            expect_id = False
        result.append(word)
    if (expect_id or depth) and not problems:
        problems.append(f"licence {value!r} is not a complete expression; write e.g. 'Apache-2.0'")
    text = " ".join(result).replace("( ", "(").replace(" )", ")")
    return text, problems

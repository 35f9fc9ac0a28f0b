"""The prompt: one image, one instruction, exactly the contract's JSON.

The example has values, because small models copy an empty skeleton instead of reading. No card can have these values
(the NIK has district 99). So a value that equals the example's was copied, and ``ocr.reading.leaks`` removes it.
"""

from __future__ import annotations

import json
from typing import Any

from ocr.reading.schema import as_contract

EXAMPLE: dict[str, str] = {
    "nik": "3171995708910042",
    "nama": "CONTOHWATI REKAANSARI",
    "tempat_lahir": "KOTA REKAAN",
    "tgl_lahir": "17-08-1991",
    "jenis_kelamin": "PEREMPUAN",
    "alamat.name": "JL. CONTOH REKAAN NO. 42",
    "alamat.rt_rw": "042/024",
    "alamat.kel_desa": "DESA REKAAN",
    "alamat.kecamatan": "KECAMATAN REKAAN",
    "agama": "ISLAM",
    "status_perkawinan": "BELUM KAWIN",
    "pekerjaan": "WIRASWASTA",
    "kewarganegaraan": "WNI",
    "berlaku_hingga": "SEUMUR HIDUP",
}

EXAMPLE_JSON = json.dumps(as_contract(EXAMPLE), ensure_ascii=False, indent=2)

INSTRUCTION = f"""\
The image should show an Indonesian identity card (Kartu Tanda Penduduk, KTP). Copy what is printed on it into one \
JSON object and answer with that object alone: no other text, no code fence.

The object has exactly the keys of this example, in this order. The example is an invented card: never use its values.

{EXAMPLE_JSON}

Rules:
- Copy every value letter by letter as printed, in capitals. Correct nothing, complete nothing, guess nothing.
- "nik": the 16 digits after "NIK", as a string without spaces.
- "tempat_lahir" and "tgl_lahir": the line "Tempat/Tgl Lahir", split at its last comma; the date as DD-MM-YYYY.
- "jenis_kelamin": "LAKI-LAKI" or "PEREMPUAN", without the blood type that follows on the same line.
- "alamat": "name" is the line "Alamat"; "rt_rw", "kel_desa" and "kecamatan" are the three indented lines below it.
- A value printed on two lines becomes one value with a single space.
- The place and date under the photograph belong to no key.
- Foreigners' cards are partly in English and name a country as nationality: copy that too.
- What you cannot read with certainty (blurred, covered, cut off) is "".
- If the image is not such a card, answer with the same object and "" for every value."""


def messages() -> list[dict[str, Any]]:
    """The conversation for one card image, as chat-template messages."""
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": INSTRUCTION}]}]

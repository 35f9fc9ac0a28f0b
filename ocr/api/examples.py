"""Examples for ``/openapi.json``: a specimen's values, of the holder of the sandbox."""

from __future__ import annotations

from typing import Any

from ocr.reading.problems import Problem
from ocr.reading.schema import FIELDS, as_contract
from ocr.sandbox.outcomes import HOLDER

ID, BATCH_ID = "2b1d9c1e-7c1a-4f0e-9f55-5a3c8d1e0b42", "7f0a4c52-1d8e-4b7b-8a53-0c2f6d9e1a37"
CREATED_AT = "2026-11-26T08:00:00Z"

READING: dict[str, Any] = {
    **as_contract(HOLDER),
    "meta": {
        "id": ID,
        "session_id": "sess_Zm9yIGV4YW1wbGUgb25seSwgbm90aGluZyBoZXJl",
        "state": "read",
        "problems": [Problem("nik", "nik_unused_district", "info").as_dict()],
        "model": "ktp-reader",
        "seconds": 1.642,
        "review": "needs_review",
        "sandbox": False,
        "confidence": {field.path: 0.998 for field in FIELDS},
        "quality": {
            "width": 1024,
            "height": 646,
            "sharpness": 1.31,
            "brightness": 0.831,
            "glare": 0.0,
            "tilt": 0.2,
            "colour": 0.17,
            "flags": [],
        },
        "province_code": "31",
        "province": "DKI JAKARTA",
        "city_code": "3171",
        "city": None,
        "blood_type": None,
        "issued_at": None,
        "issued_on": None,
    },
}
PENDING: dict[str, Any] = {
    "id": ID,
    "state": "reading",
    "location": f"/ktp-ocr/{ID}",
    "created_at": CREATED_AT,
}
BATCH: dict[str, Any] = {
    "id": BATCH_ID,
    "state": "ended",
    "location": f"/ktp-ocr/batches/{BATCH_ID}",
    "created_at": CREATED_AT,
    "items": [
        {
            "position": 0,
            "status": 200,
            "id": ID,
            "location": f"/ktp-ocr/{ID}",
            "reading": READING,
            "error": None,
        },
        {
            "position": 1,
            "status": 400,
            "id": None,
            "location": None,
            "reading": None,
            "error": {
                "message": "The entry is encrypted.",
                "type": "invalid_request_error",
                "param": "archive",
                "code": "encrypted_entry",
            },
        },
    ],
}

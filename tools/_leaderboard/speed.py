import json
from pathlib import Path


def speeds_of(results):
    """Folder of results -> {option: photos/s}, and a date under 'when'; {} if not measured"""
    path = Path(results) / 'speed.json'
    return json.loads(path.read_text()) if path.is_file() else {}

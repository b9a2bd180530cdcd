"""Reading a written page as its script does."""

import base64
import gzip
import json
import re


def unpacked(page, name):
    """The JSON value of a packed block of the page."""
    packed = re.search(rf'id="{name}">([^<]*)<', page).group(1)
    return json.loads(gzip.decompress(base64.b64decode(packed)))

"""What each owner's webhooks are signed with: made of the server's own secret and the owner's name, so that every node has the
same, nothing has to be kept, and no owner can sign as another's receiver expects it.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode

from pydantic import SecretStr

_PREFIX = "whsec_"
_PURPOSE = b"atelier webhook secret of "


def owner_secret(server_secret: SecretStr, owner: str) -> str:
    """whsec_ and 32 bytes as base64, as Standard Webhooks has them."""
    key = b64decode(server_secret.get_secret_value().removeprefix(_PREFIX))
    made = hmac.digest(key, _PURPOSE + owner.encode(errors="surrogatepass"), hashlib.sha256)
    return _PREFIX + b64encode(made).decode()

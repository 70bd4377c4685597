"""The optional bearer token: who may ask."""

import hashlib
import hmac

from bebert_infer.server.refusal import Refusal


class Bearer:
    """Compares the token of a request with the server's, in a time that tells nothing about either."""

    def __init__(self, token: str | None):
        self._expected = None if token is None else _digest(token.encode())

    def check(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Raise Refusal, 401, unless the header `Authorization: Bearer TOKEN` has the token, if there is one."""
        if self._expected is None:
            return
        given = next((value for name, value in headers if name == b"authorization"), b"")
        scheme, _, token = given.partition(b" ")
        right = hmac.compare_digest(_digest(token.strip()), self._expected)  # first: no short way for any request
        if not (right and scheme.lower() == b"bearer"):
            raise Refusal(
                401,
                'this server asks for a token: send the header "Authorization: Bearer TOKEN"',
                {"WWW-Authenticate": 'Bearer realm="bebert"'},
            )


def _digest(token: bytes) -> bytes:
    """Of one length whatever the token's: the comparison does not tell that either."""
    return hashlib.sha256(token).digest()

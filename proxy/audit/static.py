"""What looks like a static file: to us by its type, to a CDN by its extension."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

_STATIC_TYPES: Final = re.compile(
    r"(?:image|font|audio|video)/.+|text/(?:css|javascript)"
    r"|application/(?:(?:x-)?javascript|ecmascript|wasm|manifest\+json|(?:x-)?font-.+|vnd\.ms-fontobject)"
)
_DATA_TYPES: Final = re.compile(
    r"text/(?:html|xml|plain|json)|application/(?:(?:.+\+)?json|xhtml\+xml|(?:.+\+)?xml)"
)

# What Cloudflare caches by default, whatever the type: "Default cached file extensions" in its documentation.
_CDN_EXTENSIONS: Final = (
    "7z apk avi avif bin bmp bz2 class css csv dmg doc docx ejs eot eps exe flac gif gz ico iso jar jpeg jpg js mid "
    "midi mkv mp3 mp4 ogg otf pdf pict pls png ppt pptx ps rar svg svgz swf tar tif tiff ttf webm webp woff woff2 xls "
    "xlsx zip zst"
)
CDN_EXTENSIONS: Final = frozenset(_CDN_EXTENSIONS.split())
_EXTENSION: Final = re.compile(rb"\.([A-Za-z0-9]{1,5})$")


def is_static_type(media_type: str) -> bool:
    """Tell whether a media type is one of files that belong to pages: scripts, styles, images, fonts."""
    return _STATIC_TYPES.fullmatch(media_type) is not None


def disguise_of(path: bytes, media_type: str) -> str:
    """Return the extension for which a CDN would cache a path though it answers with a page or data.

    This is cache deception: `/account/settings/x.css`, `/api/me;a.js`, `/api/me%0A.css`.

    Args:
        path: as sent.

    Returns:
        The extension, such as `.css`; empty if there is none, or if the type is one that goes with files.
    """
    if not _DATA_TYPES.fullmatch(media_type):
        return ""
    for spelling in (path, unquote_to_bytes(path)):
        found = _EXTENSION.search(spelling)
        if found is not None and (name := found[1].decode("ascii").lower()) in CDN_EXTENSIONS:
            if media_type in _OWN_TYPES.get(name, ()):
                return ""
            return f".{name}"
    return ""


_OWN_TYPES: Final = {
    "svg": ("text/xml", "application/xml", "image/svg+xml"),
    "csv": ("text/plain",),
    "pls": ("text/plain",),
}

# SPDX-License-Identifier: MIT
"""Sizes and durations as people write them."""

import re
from decimal import Decimal

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGTPE]?)(?:iB|B)?", re.IGNORECASE | re.ASCII)
_DECIMAL_UNIT = re.compile(r"[\d.\s]+[KMGTPE]B", re.IGNORECASE | re.ASCII)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ns|us|ms|s|m|h)?", re.ASCII)
_PREFIXES = "KMGTPE"
_INT64_MAX = 2**63 - 1
_DURATION_NS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def parse_size(text: str) -> int:
    """Bytes in "512M", "1.5T", "10GiB" or "4096"; K, M, G, T, P, E are powers of 1024."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise ValueError(f'"{text}" is not a size; write bytes, or a number with K, M, G, T or P')
    if _DECIMAL_UNIT.fullmatch(text.strip()):
        unit = match[2].upper()
        raise ValueError(f'"{text}" is ambiguous; write {match[1]}{unit} for powers of 1024')
    power = _PREFIXES.index(match[2].upper()) + 1 if match[2] else 0
    size = Decimal(match[1]) * 1024**power
    if size != int(size):
        raise ValueError(f'"{text}" is not a whole number of bytes')
    if size > _INT64_MAX:
        raise ValueError(f'"{text}" is larger than 2^63 - 1 bytes')
    return int(size)


def format_size(size_bytes: int) -> str:
    """For people: "10 GiB", "1.5 TiB", "512 B"; at most two decimals."""
    size, prefix = float(size_bytes), ""
    for prefix in ("", *_PREFIXES):
        if size < 1024 or prefix == _PREFIXES[-1]:
            break
        size /= 1024
    number = f"{size:.2f}".rstrip("0").rstrip(".")
    return f"{number} {prefix}iB" if prefix else f"{number} B"


def format_exact_size(size_bytes: int) -> str:
    """As format_size(), and the bytes where that rounds: a small change shows."""
    unit_bytes = 1024 ** (max(size_bytes.bit_length() - 1, 0) // 10)
    exact = size_bytes * 100 % unit_bytes == 0
    return format_size(size_bytes) if exact else f"{format_size(size_bytes)} ({size_bytes} bytes)"


def parse_duration(text: str) -> int:
    """Nanoseconds in "30s", "500ms", "50us", "2m"; a bare number is seconds."""
    match = _DURATION.fullmatch(text.strip())
    if not match:
        raise ValueError(f'"{text}" is not a duration; write a number with ns, us, ms, s, m or h')
    duration = Decimal(match[1]) * _DURATION_NS[match[2] or "s"]
    if duration > _INT64_MAX:
        raise ValueError(f'"{text}" is longer than 292 years')
    return int(duration)


def format_duration(duration_ns: int) -> str:
    """For people: "3 d 4 h", "5 m 6 s", "12.3 s"; the two largest units."""
    seconds = duration_ns // 10**9
    if seconds < 60:
        return f"{duration_ns / 10**9:.1f} s"
    units = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
    parts: list[str] = []
    for unit, length in units:
        count, seconds = divmod(seconds, length)
        if count or parts:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def format_latency(latency_ns: float) -> str:
    """For people: "850 ns", "12.3 us", "1.20 ms", "2.00 s"; three digits."""
    value = float(latency_ns)
    for unit in ("ns", "us", "ms"):
        if value < 999.5:
            digits = 0 if unit == "ns" or value >= 99.95 else 1 if value >= 9.995 else 2
            return f"{value:.{digits}f} {unit}"
        value /= 1000
    return f"{value:.2f} s"


def format_rate(bytes_per_s: float) -> str:
    """For people: "850 B/s", "12.3 MiB/s", "1.20 GiB/s"; three digits."""
    value, power = float(bytes_per_s), 0
    while value >= 999.5 and power < len(_PREFIXES):
        value /= 1024
        power += 1
    if power == 0:
        return f"{value:.0f} B/s"
    digits = 0 if value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f} {_PREFIXES[power - 1]}iB/s"


def format_count(number: float) -> str:
    """For people: "7", "850", "12.3 k", "1.20 M"; three digits."""
    value = float(number)
    if value < 999.5:
        return f"{value:.0f}"
    for unit in ("k", "M"):
        value /= 1000
        if value < 999.5:
            digits = 0 if value >= 99.95 else 1 if value >= 9.995 else 2
            return f"{value:.{digits}f} {unit}"
    return f"{value / 1000:.2f} G"

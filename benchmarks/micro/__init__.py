# SPDX-License-Identifier: MIT
"""What the parts cost one by one: ``python -m pytest benchmarks/micro --benchmark-json FILE``.

They say which part has become slower when the whole has; the whole is benchmarks' affair.
"""

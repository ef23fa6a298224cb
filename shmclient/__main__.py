# SPDX-License-Identifier: MIT
"""python -m shmclient"""

from shmclient.cli import main

if __name__ == "__main__":
    main()

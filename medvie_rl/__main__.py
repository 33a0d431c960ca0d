"""`python -m medvie_rl` is the `medvie` command, also where nothing of ours is installed."""

import sys

from medvie_rl.cli import main

sys.exit(main())

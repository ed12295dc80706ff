#!/usr/bin/env bash
# Stands for scontrol: writes down what it was told.
set -euo pipefail
printf '<%s>\n' "$@" >>"$RECORD/scontrol"
exit "${FAKE_SCONTROL_CODE:-0}"

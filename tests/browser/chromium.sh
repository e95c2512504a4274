#!/bin/sh
# Sees to it that Chromium is there: installs Debian's where that is allowed, or says what to install.
command -v chromium >/dev/null || command -v chromium-browser >/dev/null && exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  echo "Installing Chromium for the browser tests (apt-get install chromium) ..."
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } >/dev/null && exit 0
fi
echo "The tests need Chromium, which is not installed. On Debian or Ubuntu: sudo apt-get install chromium" >&2
exit 1

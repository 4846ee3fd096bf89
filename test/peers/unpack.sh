#!/bin/sh
# Fetches Debian packages that cannot be installed beside the others, and unpacks each
# into unpacked/NAME: sh test/peers/unpack.sh opensmtpd
set -eu
cd "$(dirname "$0")"
mkdir -p unpacked
cd unpacked
for p; do
	[ -e "$p" ] && continue
	apt-get download -q "$p"
	dpkg-deb -x "$p"_*.deb "$p.new"
	rm "$p"_*.deb
	mv "$p.new" "$p"
done

#!/bin/sh
# What OpenSSL's build needs beside what an image of cross has; it runs in the image.
set -e
apt-get update
apt-get install -y --no-install-recommends perl make pkg-config

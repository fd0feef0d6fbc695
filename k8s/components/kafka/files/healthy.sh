#!/usr/bin/env bash
# Whether the broker answers: asks which API versions it knows (request 18 of Kafka's protocol), without a JVM.
set -euo pipefail
exec 3<>"/dev/tcp/${1:-127.0.0.1}/${2:-9092}"
# size 10 · api 18 · version 0 · correlation 7 · no client id
printf '\0\0\0\012\0\022\0\0\0\0\0\007\377\377' >&3
answer=$(head -c 8 <&3 | od -An -v -tu1)  # its size, and our correlation
[[ $answer =~ \ 7$ ]]

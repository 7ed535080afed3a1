#!/bin/sh
# A certificate authority and one certificate a node. usage: make-certificates.sh FOLDER HOST...
# HOST is the name or the address by which others reach the node, or several with commas between: the first one names the files.
# localhost and 127.0.0.1 are added.
set -eu
[ $# -ge 2 ] || { echo "usage: $0 FOLDER HOST..." >&2; exit 2; }
folder=$1
shift
umask 077
mkdir -p "$folder"
cd "$folder"
[ -f ca.key ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=rqlite CA" -keyout ca.key -out ca.pem 2> /dev/null
for names in "$@"; do
  host=${names%%,*}
  alternatives=
  for name in $(echo "$names" | tr ',' ' '); do
    case $name in
      *[!0-9.]*) alternatives=${alternatives}DNS:$name, ;;
      *) alternatives=${alternatives}IP:$name, ;;
    esac
  done
  printf 'subjectAltName=%sDNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n' "$alternatives" > "$host.ext"
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$host" -keyout "$host.key" -out "$host.csr" 2> /dev/null
  openssl x509 -req -in "$host.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 825 -extfile "$host.ext" -out "$host.pem" 2> /dev/null
  rm "$host.csr" "$host.ext"
done
echo "made in $folder: ca.pem and, for each host, HOST.pem and HOST.key (ca.key signs further ones: keep it elsewhere)"

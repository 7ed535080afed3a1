# bash completion for rqlited, rqlite and rqbench. The flags are what the program itself lists: they can't go stale.
_rqlite_flags() {
  "$1" -h 2>&1 | sed -nE 's/^ +(-[A-Za-z0-9-]+)(, (--[a-z0-9-]+))?.*$/\1 \3/p'
}

_rqlite() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
  COMPREPLY=()
  if [[ ${1##*/} == rqlited && $COMP_CWORD == 1 && $current != -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W 'doctor import recover' -- "$current"; compgen -d -- "$current")
  elif [[ $current == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$(_rqlite_flags "$1")" -- "$current")
  elif [[ ${1##*/} == rqlited && $previous != -* ]]; then
    mapfile -t COMPREPLY < <(compgen -d -- "$current")
  else
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
  fi
}
complete -o filenames -F _rqlite rqlited rqlite rqbench

# fish completion. The flags are what the program itself lists: they can't go stale.
function __rqlite_flags
    set -l words (commandline -opc)
    $words[1] -h 2>&1 | sed -nE 's/^ +(-[A-Za-z0-9-]+)(, (--[a-z0-9-]+))?.*$/\1 \3/p' | tr ' ' '\n' | string match -r '.+'
end
for program in rqlited rqlite rqbench
    complete -c $program -n 'string match -q -- "-*" (commandline -ct)' -f -a '(__rqlite_flags)'
end
complete -c rqlited -n 'test (count (commandline -opc)) -eq 1' -a 'doctor import recover'

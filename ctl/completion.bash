# Completion of sluicectl for bash: source it, or install it as sluicectl where bash-completion looks.

_sluicectl() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command='' verb='' i
    local commands='status models workers explain watch top reload drain loglevel level cache experiment log'
    local options='--address --token-file --ca-file --timeout --json --version --help'
    COMPREPLY=()
    if [[ $word == = ]]; then # --option=: bash makes three words of it
        word=''
    elif [[ $before == = ]]; then
        before=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    case $before in
    --token-file | --ca-file | --config | --password-file | --cert-file | --key-file)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        return
        ;;
    --address)
        mapfile -t COMPREPLY < <(compgen -W 'unix: https:// 127.0.0.1:9090' -- "$word")
        return
        ;;
    --format)
        mapfile -t COMPREPLY < <(compgen -W 'jsonl csv' -- "$word")
        return
        ;;
    --timeout | --why | --revision | --since | --model | --deployment | --key | --variant)
        return
        ;;
    --for)
        mapfile -t COMPREPLY < <(compgen -W '10m 1h 1d' -- "$word")
        return
        ;;
    esac
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        --address | --token-file | --ca-file | --timeout | --for | --why | --revision | --since | --model | --format | --deployment | --keep | --config | --password-file | --cert-file | --key-file | --key | --variant) # its value is no command
            ((i++))
            [[ ${COMP_WORDS[i]} == = ]] && ((i++))
            ;;
        -*) ;;
        *)
            [[ -z $command || -n $verb ]] || verb=${COMP_WORDS[i]}
            [[ -n $command ]] || command=${COMP_WORDS[i]}
            ;;
        esac
    done
    if [[ $word == -* ]]; then
        [[ $command != drain ]] || options+=' --wait'
        [[ $command != log ]] || options+=' --since --model --format --deployment --keep --config --password-file --cert-file --key-file --tls'
        [[ $command != top ]] || options+=' --once'
        [[ "$command $verb" != 'level set' ]] || options+=' --for --why'
        [[ "$command $verb" != experiment\ @(weights|pause|resume|rollback|promote|delete) ]] || options+=' --why --revision'
        [[ "$command $verb" != 'experiment create' ]] || options+=' --model --key --variant --start --why'
        [[ "$command $verb" != 'experiment delete' ]] || options+=' --yes'
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
    elif [[ -z $command ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$word")
    elif [[ $command == level && -z $verb ]]; then
        mapfile -t COMPREPLY < <(compgen -W 'show set clear' -- "$word")
    elif [[ $command == experiment && -z $verb ]]; then
        mapfile -t COMPREPLY < <(compgen -W 'list show weights pause resume rollback promote create delete watch' -- "$word")
    elif [[ "$command $verb" == 'experiment create' ]]; then
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
    elif [[ $command == log && -z $verb ]]; then
        mapfile -t COMPREPLY < <(compgen -W 'export tail archive' -- "$word")
    elif [[ $command == log ]]; then
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -d -- "$word")
    elif [[ $command == cache && $before == cache ]]; then
        mapfile -t COMPREPLY < <(compgen -W 'stats flush' -- "$word")
    elif [[ $command == loglevel ]]; then
        mapfile -t COMPREPLY < <(compgen -W 'debug info warn error' -- "$word")
    fi
}

complete -F _sluicectl sluicectl

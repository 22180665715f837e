# shellcheck shell=bash
# What pip brings: the Python clients, and the tools of `make lint`. A part of setup.sh, which sources it: variables come from there and go there.
# shellcheck disable=SC2034,SC2154

# The sets, by the requirements file that locks each.
python_sets=(nautobot psycopg2-2.9.10 psycopg2-2.9.12)

set_is_present() {
  local directory=$toolchain/python/$1
  [ -x "$directory/bin/python" ] && [ "$(cat "$directory/.complete" 2>/dev/null)" = "$(key_of "$here/requirements-$1.txt")" ]
}

python_sets_present() {
  local set
  for set in "${python_sets[@]}"; do
    set_is_present "$set" || return 1
  done
}

can_make_venv() { have "$1" && "$1" -c 'import venv, ensurepip, sys; sys.exit(sys.version_info < (3, 9))' >/dev/null 2>&1; }

# Prints the first usable interpreter.
find_python() {
  local python
  for python in "${python_candidates[@]}"; do
    if can_make_venv "$python"; then
      echo "$python"
      return
    fi
  done
  return 1
}

# make_venv PYTHON REQUIREMENTS DIRECTORY: an environment with exactly the locked wheels, or none.
# Its log is $logs/pip.log. Returns 1 on failure.
make_venv() {
  local python=$1 requirements=$2 directory=$3
  rm -rf -- "$work/venv"
  if "$python" -m venv "$work/venv" >"$logs/pip.log" 2>&1 </dev/null &&
    "$work/venv/bin/python" -m pip install --quiet --no-input --disable-pip-version-check --only-binary=:all: --require-hashes \
      --requirement "$requirements" >>"$logs/pip.log" 2>&1 </dev/null; then
    rm -rf -- "$directory"
    mkdir -p -- "$(dirname "$directory")"
    # Only bin/python is used, which finds its environment by its own place; pip's own scripts would not survive the move.
    "$work/venv/bin/python" -m pip uninstall --quiet --yes --disable-pip-version-check setuptools pip >>"$logs/pip.log" 2>&1 </dev/null || true
    mv -- "$work/venv" "$directory"
    return 0
  fi
  rm -rf -- "$work/venv"
  return 1
}

python_step() {
  local set
  for set in "${python_sets[@]}"; do
    set_is_present "$set" || bring_environment "$set" "$toolchain/python/$set" 'import psycopg2'
  done
}

lint_step() { bring_environment lint "$toolchain/lint" pass; }

lint_is_present() { [ "$(cat "$toolchain/lint/.complete" 2>/dev/null)" = "$(key_of "$here/requirements-lint.txt")" ]; }

# bring_environment SET DIRECTORY CHECK: makes the environment of requirements-SET.txt; CHECK is Python that must work in it.
bring_environment() {
  local set=$1 directory=$2 check=$3 requirements=$here/requirements-$1.txt key begin=${EPOCHREALTIME/./}
  key=$(key_of "$requirements")
  if failed_before "$set" "$key"; then
    lack "$set" "an earlier set-up could not bring it; 'make setup' tries again."
    return
  fi
  say "pip: installing $set ..."
  if try_interpreters "$set" "$requirements" "$directory" "$check"; then
    printf '%s\n' "$key" >"$directory/.complete"
    forget_failure "$set"
    brought=1
    say "pip: $set done in $(since "$begin")"
  else
    remember_failure "$set" "$key"
  fi
}

# The same with the first interpreter that there are wheels for; says why not otherwise.
try_interpreters() {
  local set=$1 requirements=$2 directory=$3 check=$4 log=$logs/pip.log tried='' python version
  for python in "${python_candidates[@]}"; do
    can_make_venv "$python" || continue
    version=$("$python" --version 2>&1)
    case "$tried" in *"$version"*) continue ;; esac
    tried=${tried:+$tried, }$version
    if make_venv "$python" "$requirements" "$directory"; then
      if "$directory/bin/python" -c "$check" >>"$log" 2>&1; then return 0; fi
      rm -rf -- "$directory"
      break
    fi
    # Only a version without wheels is worth another interpreter.
    if ! grep -q 'No matching distribution' "$log" || grep -q 'Retrying (Retry' "$log"; then break; fi
  done
  if [ -z "$tried" ]; then
    lack "$set" "no Python 3.9 or later with venv and ensurepip was found. Install python3-venv, or set PYTHON."
    return 1
  fi
  log=$logs/pip-$set.log
  cp -- "$logs/pip.log" "$log"
  if grep -q 'DO NOT MATCH THE HASHES' "$log"; then
    lack "$set" "A DOWNLOAD'S HASH IS NOT THE LOCKED ONE, and it was thrown away. Look at the package index that pip uses; see $log."
  elif grep -q 'No matching distribution' "$log" && ! grep -q 'Retrying (Retry' "$log"; then
    lack "$set" "it has no wheel for $tried on $(uname -m). Install an older Python, or set PYTHON."
  else
    lack "$set" "pip failed; the end of $log says:"
    show_tail "$log"
  fi
  return 1
}

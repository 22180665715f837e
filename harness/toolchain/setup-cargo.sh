# shellcheck shell=bash
# What cargo and rustup bring: the tools of `make fuzz` and `make mutants`. A part of setup.sh, which sources it: variables come from there and go there.
# shellcheck disable=SC2034,SC2154

cargo_fuzz_version=0.13.2
cargo_mutants_version=27.1.0

# The nightly compiler is called by its name where rustup has it, else it is in the folder.
has_nightly() { cargo "+${FUZZ_TOOLCHAIN:-nightly}" --version >/dev/null 2>&1; }

has_own_nightly() { RUSTUP_HOME=$toolchain/rustup has_nightly; }

# bring_cargo_tool NAME VERSION: builds a subcommand of cargo.
bring_cargo_tool() {
  local name=$1 version=$2 log=$logs/$1.log begin=${EPOCHREALTIME/./}
  if [ -x "$toolchain/cargo/bin/$name" ]; then return; fi
  if ! have cargo; then
    lack "$name" "there is no cargo. Install Rust: https://rustup.rs"
    return
  fi
  say "cargo: building $name $version ..."
  if CARGO_TARGET_DIR=$work/cargo cargo install "$name" --version "$version" --locked --root "$toolchain/cargo" >"$log" 2>&1 </dev/null; then
    brought=1
    say "cargo: $name done in $(since "$begin")"
  else
    lack "$name" "cargo could not build it; the end of $log says:"
    show_tail "$log"
  fi
}

fuzz_step() {
  local log=$logs/rustup.log
  have c++ || lack "a C++ compiler" "libFuzzer is built with it. Install g++."
  if ! has_nightly && ! has_own_nightly; then
    if ! have rustup; then
      lack "a nightly compiler" "libFuzzer needs one, and there is no rustup to bring it. Install rustup, or name a compiler of it in FUZZ_TOOLCHAIN."
    elif RUSTUP_HOME=$toolchain/rustup rustup toolchain install "${FUZZ_TOOLCHAIN:-nightly}" --profile minimal >"$log" 2>&1 </dev/null; then
      brought=1
    else
      lack "a nightly compiler" "rustup could not bring it; the end of $log says:"
      show_tail "$log"
    fi
  fi
  bring_cargo_tool cargo-fuzz "$cargo_fuzz_version"
}

fuzz_is_here() { [ -x "$toolchain/cargo/bin/cargo-fuzz" ] && have c++ && { has_nightly || has_own_nightly; }; }

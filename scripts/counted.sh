#!/bin/sh
# Cargo's RUSTC_WORKSPACE_WRAPPER of `make fuzz`: the unit tests of the agent count the
# branches that they take (agent/src/fuzz/coverage.rs); all else is built as ever, and what
# is not ours not even anew.
case " $* " in
  *" --crate-name tidegate "*" --test "*)
    set -- "$@" -C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=3 \
      -C llvm-args=-sanitizer-coverage-inline-8bit-counters ;;
esac
exec "$@"

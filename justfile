# The commands of the project. `just` alone lists them.

_default:
    @just --list --unsorted

# A whole network on loopback answers a prompt
demo prompt="Tell me a story about a fox.":
    cargo run --release -- demo "{{ prompt }}"

# Form, lints, documents, vectors, dependencies
check:
    .ci/check

# Every test ring, or those that are named: just test unit,vectors
test rings="":
    tests/run {{ if rings == "" { "" } else { "--only " + rings } }}

# Measures this machine
bench:
    tests/run --only bench

# Makes specs/vectors anew
vectors:
    cargo run -p infernet-protocol --example vectors -- specs/vectors

# Puts the source into form
fmt:
    cargo fmt --all

# Makes the demo model anew, which takes hours; or another of its commands: just model sample "Hello"
model *arguments="make-all":
    cargo run --release -p infernet-demo-model -- {{ arguments }}

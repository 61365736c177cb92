//! The `ringmesh` executable. What it does stands in the library, in `program.rs`.

fn main() -> std::process::ExitCode {
    ringmesh::run()
}

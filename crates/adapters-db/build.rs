//! Migrations are embedded at compile time; cargo does not see a new file in their folder by itself.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}

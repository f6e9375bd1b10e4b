//! `tidy`: the rules that a search for strings can check. What rustfmt and clippy check is not repeated here.
//!
//! Each rule is a function from a file's path and text to remarks with their lines, so that it is tested with a sample
//! that breaks it. The words looked for are put together from parts: this file keeps the rules too.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::workspace;

/// A file that is longer wants to be two.
const MAX_LINES: usize = 700;

/// A file of the repository: its path from the root, with `/`, and its text.
struct Source {
    path: String,
    text: String,
}

#[derive(Debug, PartialEq, Eq)]
struct Remark {
    path: String,
    /// 0 when the remark is about the file as a whole.
    line: usize,
    reason: String,
}

type Rule = fn(&Source) -> Vec<Remark>;

const RULES: &[Rule] = &[
    no_unfinished_code,
    no_ignored_tests,
    no_long_files,
    no_machine_paths,
    crate_roots_are_documented,
    manifests_inherit_the_lints,
    no_trailing_space,
];

pub(crate) fn run() -> Result<()> {
    check_repository(&workspace::root()?)
}

/// Prints every remark with file and line; an error when there is one.
pub(crate) fn check_repository(root: &Path) -> Result<()> {
    let sources = read_sources(root)?;
    let mut remarks: Vec<Remark> =
        sources.iter().flat_map(|source| RULES.iter().flat_map(move |rule| rule(source))).collect();
    remarks.extend(decisions_are_listed(&sources));
    remarks.extend(links_lead_somewhere(&sources, |path| root.join(path).exists()));
    remarks.extend(required_files(&sources));
    for Remark { path, line, reason } in &remarks {
        println!("{path}:{line}: {reason}");
    }
    if !remarks.is_empty() {
        bail!("{} remarks", remarks.len());
    }
    println!("{} files are tidy", sources.len());
    Ok(())
}

/// The text files that git knows or would add.
fn read_sources(root: &Path) -> Result<Vec<Source>> {
    let output = Command::new("git")
        .current_dir(root)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .context("could not start git")?;
    if !output.status.success() {
        bail!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut sources = Vec::new();
    for path in listed.split('\0').filter(|path| !path.is_empty()) {
        // Deleted but not yet committed, or no text (a picture): neither has lines to check.
        if let Ok(text) = std::fs::read_to_string(root.join(path)) {
            sources.push(Source { path: path.to_owned(), text });
        }
    }
    Ok(sources)
}

impl Source {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Third-party files that are kept as they came.
    fn is_vendored(&self) -> bool {
        self.path.split('/').any(|part| part == "vendor" || part == "assets")
    }

    fn remark(&self, line: usize, reason: impl Into<String>) -> Remark {
        Remark { path: self.path.clone(), line, reason: reason.into() }
    }

    /// A remark for every line that `wrong` gives a reason for.
    fn lines_where(&self, wrong: impl Fn(&str) -> Option<String>) -> Vec<Remark> {
        let numbered = self.text.lines().enumerate();
        numbered
            .filter_map(|(index, line)| wrong(line).map(|reason| self.remark(index + 1, reason)))
            .collect()
    }
}

fn no_unfinished_code(source: &Source) -> Vec<Remark> {
    if !source.is_rust() {
        return Vec::new();
    }
    let words = [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("dbg", "!(")];
    source.lines_where(|line| {
        let word = words.iter().find(|word| line.contains(**word))?;
        Some(format!("`{word}..)`: nothing unfinished is committed"))
    })
}

fn no_ignored_tests(source: &Source) -> Vec<Remark> {
    if !source.is_rust() {
        return Vec::new();
    }
    let start = concat!("#[", "ignore");
    source.lines_where(|line| {
        line.trim_start()
            .starts_with(start)
            .then(|| "an ignored test tests nothing: repair or remove it".to_owned())
    })
}

fn no_long_files(source: &Source) -> Vec<Remark> {
    let lines = source.text.lines().count();
    if source.is_rust() && lines > MAX_LINES {
        return vec![
            source.remark(0, format!("{lines} lines, more than {MAX_LINES}: split it by what it is about")),
        ];
    }
    Vec::new()
}

fn no_machine_paths(source: &Source) -> Vec<Remark> {
    if source.is_vendored() {
        return Vec::new();
    }
    let starts =
        [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];
    source.lines_where(|line| {
        let start = starts.iter().find(|start| {
            line.match_indices(**start).any(|(at, _)| {
                // `crates/root/` is a path of ours, a folder of the machine begins with its slash.
                line.get(..at)
                    .and_then(|before| before.chars().next_back())
                    .is_none_or(|c| !is_path_character(c))
            })
        })?;
        Some(format!("`{start}`: a path of one machine"))
    })
}

fn is_path_character(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '}' | '/')
}

fn crate_roots_are_documented(source: &Source) -> Vec<Remark> {
    let mut parts = source.path.rsplit('/');
    let (file, folder) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if folder != "src" || !matches!(file, "lib.rs" | "main.rs") {
        return Vec::new();
    }
    let said: usize =
        source.text.lines().filter_map(|line| line.strip_prefix("//!")).map(|line| line.trim().len()).sum();
    // A bare name says nothing that the manifest does not; a thin program's library says the rest.
    if said < if file == "lib.rs" { 40 } else { 20 } {
        return vec![
            source.remark(1, "a crate begins with `//!`: what it is, why, and what is deliberately absent"),
        ];
    }
    Vec::new()
}

fn manifests_inherit_the_lints(source: &Source) -> Vec<Remark> {
    let is_member = source.path.ends_with("/Cargo.toml") && !source.text.contains("[workspace]");
    if is_member && !source.text.contains("[lints]\nworkspace = true") {
        return vec![
            source.remark(0, "a member inherits the lints of the workspace: `[lints]` `workspace = true`"),
        ];
    }
    Vec::new()
}

fn no_trailing_space(source: &Source) -> Vec<Remark> {
    if source.is_vendored() || source.path.ends_with(".snap") {
        return Vec::new();
    }
    source.lines_where(|line| line.ends_with([' ', '\t']).then(|| "space at the end of the line".to_owned()))
}

/// Every decision stands in the list of decisions.
fn decisions_are_listed(sources: &[Source]) -> Vec<Remark> {
    const FOLDER: &str = "docs/adr/";
    let list = sources.iter().find(|source| source.path == "docs/adr/README.md");
    let names = sources.iter().filter_map(|source| {
        let name = source.path.strip_prefix(FOLDER)?;
        (name != "README.md").then_some((source, name))
    });
    names
        .filter(|(_, name)| !list.is_some_and(|list| list.text.contains(&format!("({name})"))))
        .map(|(source, name)| source.remark(0, format!("docs/adr/README.md has no link to ({name})")))
        .collect()
}

/// Links between files of the repository lead to files that are there.
fn links_lead_somewhere(sources: &[Source], exists: impl Fn(&str) -> bool) -> Vec<Remark> {
    let mut remarks = Vec::new();
    for source in sources.iter().filter(|source| source.path.ends_with(".md")) {
        let folder = source.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (index, line) in source.text.lines().enumerate() {
            for target in links(line) {
                let file = target.split('#').next().unwrap_or_default();
                if file.is_empty() || file.contains("://") || file.starts_with("mailto:") {
                    continue;
                }
                if resolve(folder, file).is_none_or(|path| !exists(&path)) {
                    remarks.push(source.remark(index + 1, format!("the link to `{file}` leads nowhere")));
                }
            }
        }
    }
    remarks
}

/// The targets of `[text](target)` in a line.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target.trim()))
}

/// A relative link as a path from the root; None when it leaves the repository.
fn resolve(folder: &str, file: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in file.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn required_files(sources: &[Source]) -> Vec<Remark> {
    [
        "README.md",
        "README.ko.md",
        "CHANGELOG.md",
        "docs/ARCHITECTURE.md",
        "docs/configuration.md",
        "docs/adr/README.md",
    ]
    .into_iter()
    .filter(|path| !sources.iter().any(|source| source.path == *path))
    .map(|path| Remark {
        path: path.to_owned(),
        line: 0,
        reason: "the repository must have this file".to_owned(),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    fn lines(remarks: &[Remark]) -> Vec<usize> {
        remarks.iter().map(|remark| remark.line).collect()
    }

    #[test]
    fn unfinished_code_is_found_by_its_line() {
        let text = format!(
            "fn a() {{\n    {}\n}}\nfn b() {{ {}1) }}\n",
            concat!("todo", "!()"),
            concat!("dbg", "!(")
        );
        assert_eq!(lines(&no_unfinished_code(&source("a.rs", &text))), [2, 4]);
        assert_eq!(no_unfinished_code(&source("a.md", &text)), []);
    }

    #[test]
    fn ignored_tests_are_found_with_and_without_a_reason() {
        let attribute = concat!("#[", "ignore");
        let text = format!("{attribute}]\n#[test]\n    {attribute} = \"slow\"]\n// not {attribute}]\n");
        assert_eq!(lines(&no_ignored_tests(&source("a.rs", &text))), [1, 3]);
    }

    #[test]
    fn a_file_may_have_so_many_lines_and_no_more() {
        assert_eq!(no_long_files(&source("a.rs", &"x\n".repeat(MAX_LINES))), []);
        assert_eq!(no_long_files(&source("a.rs", &"x\n".repeat(MAX_LINES + 1))).len(), 1);
    }

    #[test]
    fn paths_of_a_machine_are_found_but_not_paths_that_contain_them() {
        let text = format!(
            "see {}me/kim/x\nsee crates{}me/x\n\"{}ot/.cargo\"\n",
            concat!("/", "ho"),
            "/ho",
            concat!("/", "ro")
        );
        assert_eq!(lines(&no_machine_paths(&source("a.md", &text))), [1, 3]);
    }

    #[test]
    fn a_crate_root_without_a_sentence_is_found() {
        assert_eq!(crate_roots_are_documented(&source("crates/a/src/lib.rs", "//! a\n")).len(), 1);
        let text = "//! What this crate holds, why it exists, and what it leaves out.\n";
        assert_eq!(crate_roots_are_documented(&source("crates/a/src/lib.rs", text)), []);
        assert_eq!(crate_roots_are_documented(&source("crates/a/src/other.rs", "")), []);
    }

    #[test]
    fn a_manifest_without_the_lints_is_found() {
        assert_eq!(manifests_inherit_the_lints(&source("crates/a/Cargo.toml", "[package]\n")).len(), 1);
        assert_eq!(
            manifests_inherit_the_lints(&source("crates/a/Cargo.toml", "[lints]\nworkspace = true\n")),
            []
        );
        assert_eq!(manifests_inherit_the_lints(&source("Cargo.toml", "[workspace]\n")), []);
    }

    #[test]
    fn space_at_the_end_of_a_line_is_found() {
        assert_eq!(lines(&no_trailing_space(&source("a.md", "good\nbad \n\tbad\t\n"))), [2, 3]);
    }

    #[test]
    fn a_decision_that_is_not_listed_is_found() {
        let listed = source("docs/adr/README.md", "- [One](0001-one.md)\n");
        let found = decisions_are_listed(&[
            listed,
            source("docs/adr/0001-one.md", ""),
            source("docs/adr/0002-two.md", ""),
        ]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].path, "docs/adr/0002-two.md");
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let text = "[a](b.md) [c](../README.md#top) [d](https://example.org/x) [e](#here)\n![f](gone.svg) [g](../../up.md)\n";
        let found = links_lead_somewhere(&[source("docs/a.md", text)], |path| {
            ["docs/b.md", "README.md"].contains(&path)
        });
        let reasons: Vec<&str> = found.iter().map(|remark| remark.reason.as_str()).collect();
        assert_eq!(
            reasons,
            ["the link to `gone.svg` leads nowhere", "the link to `../../up.md` leads nowhere"]
        );
        assert_eq!(lines(&found), [2, 2]);
    }

    #[test]
    fn a_missing_changelog_is_found() {
        assert!(
            required_files(&[source("README.md", "")]).iter().any(|remark| remark.path == "CHANGELOG.md")
        );
    }
}

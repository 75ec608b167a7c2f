//! Which files are meant by a pattern such as `apps/*.toml`.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::{Component, Path, PathBuf};

use glob::{MatchOptions, Pattern};

/// A pattern that no file can be found by.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no file pattern: {why}; write a path whose names may hold *, ? and [a-z]")]
pub struct BadPattern {
    given: String,
    why: String,
}

/// An absolute path whose names may hold `*`, `?` and `[…]`. A file or folder whose name starts with a
/// dot matches only a pattern that starts with one too: editors and copy tools keep half-written files
/// so. Names that are not UTF-8 match nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct FilePattern {
    shown: String,
    names: Vec<Name>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    Literal(OsString),
    Wild(Pattern),
}

/// `*` and `?` are kept from leading dots by [`Name::matches`] itself.
const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

impl Name {
    fn matches(&self, name: &OsStr) -> bool {
        match self {
            Self::Literal(literal) => literal == name,
            Self::Wild(pattern) => name.to_str().is_some_and(|name| {
                let hidden = name.starts_with('.') && !pattern.as_str().starts_with('.');
                !hidden && pattern.matches_with(name, OPTIONS)
            }),
        }
    }
}

/// What a pattern leads to at one moment.
#[derive(Debug, Default)]
pub(super) struct Expansion {
    pub files: BTreeSet<PathBuf>,
    /// Folders in which a new name could match, whether they exist or not.
    pub folders: BTreeSet<PathBuf>,
    /// Folders that could not be read: what they hold is unknown, not gone.
    pub unread: Vec<(PathBuf, io::Error)>,
}

impl FilePattern {
    /// Reads `text` as seen from the folder `base`, an absolute path, whose own name is taken literally.
    ///
    /// # Errors
    /// [`BadPattern`] for an empty pattern, `**`, an open bracket, or one that names no file.
    pub fn parse(base: &Path, text: &str) -> Result<Self, BadPattern> {
        let bad = |why: &str| BadPattern { given: text.chars().take(256).collect(), why: why.to_owned() };
        if text.is_empty() || text.ends_with('/') || text.contains('\0') {
            return Err(bad("it names no file"));
        }
        if text.contains("**") {
            return Err(bad("** is not supported"));
        }
        let path = Path::new(text);
        let mut names = Vec::new();
        if !path.is_absolute() {
            names.extend(base.components().filter_map(|part| literal(part).map(Name::Literal)));
        }
        for part in path.components() {
            let Some(name) = literal(part) else { continue };
            let wild = name.to_str().is_some_and(|name| name.contains(['*', '?', '[']));
            let name = match name.to_str().filter(|_| wild) {
                Some(glob) => Name::Wild(Pattern::new(glob).map_err(|error| bad(error.msg))?),
                None => Name::Literal(name),
            };
            names.push(name);
        }
        match names.last() {
            None => Err(bad("it names no file")),
            Some(Name::Literal(last)) if last == ".." => Err(bad("it names no file")),
            Some(_) => Ok(Self { shown: show(&names), names }),
        }
    }

    /// As an absolute glob; in names that are taken literally, special characters stand in brackets.
    pub fn as_str(&self) -> &str {
        &self.shown
    }

    /// The files that match now, in order. Folders that do not exist or cannot be read hold none.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut expansion = Expansion::default();
        self.expand(&mut expansion);
        expansion.files.into_iter().collect()
    }

    pub(super) fn expand(&self, expansion: &mut Expansion) {
        self.descend(&mut PathBuf::from("/"), 0, expansion);
    }

    /// `folder` matches the first `depth` names.
    fn descend(&self, folder: &mut PathBuf, depth: usize, expansion: &mut Expansion) {
        let last = depth + 1 == self.names.len();
        match &self.names[depth] {
            Name::Literal(name) => {
                if last {
                    expansion.folders.insert(folder.clone());
                }
                self.step(folder, name, depth, expansion);
            }
            Name::Wild(_) => {
                expansion.folders.insert(folder.clone());
                if let Err(error) = self.list(folder, depth, expansion)
                    && !is_absence(&error)
                {
                    expansion.unread.push((folder.clone(), error));
                }
            }
        }
    }

    fn list(&self, folder: &mut PathBuf, depth: usize, expansion: &mut Expansion) -> io::Result<()> {
        for entry in std::fs::read_dir(&*folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if !self.names[depth].matches(&name) {
                continue;
            }
            let kind = entry.file_type()?;
            if depth + 1 == self.names.len() && kind.is_file() {
                // The listing says it already: 10,000 files need no call each.
                expansion.files.insert(folder.join(&name));
            } else {
                self.step(folder, &name, depth, expansion);
            }
        }
        Ok(())
    }

    fn step(&self, folder: &mut PathBuf, name: &OsStr, depth: usize, expansion: &mut Expansion) {
        folder.push(name);
        if depth + 1 < self.names.len() {
            self.descend(folder, depth + 1, expansion);
        } else if std::fs::metadata(&*folder).is_ok_and(|found| !found.is_dir()) {
            expansion.files.insert(folder.clone());
        }
        folder.pop();
    }

    /// Whether a file of that path is meant.
    pub(super) fn matches(&self, path: &Path) -> bool {
        self.matched_names(path) == Some(self.names.len())
    }

    /// Whether files that are meant could stand below that path.
    pub(super) fn leads_through(&self, path: &Path) -> bool {
        self.matched_names(path).is_some_and(|count| count < self.names.len())
    }

    fn matched_names(&self, path: &Path) -> Option<usize> {
        let mut names = self.names.iter();
        let mut count = 0;
        for part in path.components().filter_map(literal) {
            if !names.next()?.matches(&part) {
                return None;
            }
            count += 1;
        }
        Some(count)
    }
}

impl fmt::Display for FilePattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.shown)
    }
}

impl fmt::Debug for FilePattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.shown)
    }
}

/// `..` stays a name: resolving it here would go wrong across symbolic links.
fn literal(part: Component<'_>) -> Option<OsString> {
    match part {
        Component::Normal(_) | Component::ParentDir => Some(part.as_os_str().to_owned()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    }
}

fn show(names: &[Name]) -> String {
    let name = |name: &Name| match name {
        Name::Literal(name) => format!("/{}", Pattern::escape(&name.to_string_lossy())),
        Name::Wild(pattern) => format!("/{}", pattern.as_str()),
    };
    names.iter().map(name).collect()
}

pub(super) fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> FilePattern {
        FilePattern::parse(Path::new("/etc/slu[i]ce"), text).unwrap()
    }

    #[test]
    fn relative_patterns_start_at_the_base_taken_literally() {
        assert_eq!(pattern("apps/*.toml").as_str(), "/etc/slu[[]i[]]ce/apps/*.toml");
        assert_eq!(pattern("./apps/a.toml").as_str(), "/etc/slu[[]i[]]ce/apps/a.toml");
        assert_eq!(pattern("/apps/*.toml").as_str(), "/apps/*.toml");
        assert!(pattern("apps/*.toml").matches(Path::new("/etc/slu[i]ce/apps/a.toml")));
        assert!(!pattern("apps/*.toml").matches(Path::new("/etc/sluice/apps/a.toml")));
    }

    #[test]
    fn hidden_names_match_only_when_asked_for() {
        for (text, path, wanted) in [
            ("/a/*.toml", "/a/x.toml", true),
            ("/a/*.toml", "/a/.x.toml", false),
            ("/a/*", "/a/.x", false),
            ("/a/[.]x", "/a/.x", false),
            ("/a/.*", "/a/.x", true),
            ("/a/*/x", "/a/b/x", true),
            ("/a/*/x", "/a/.b/x", false),
            ("/a/*", "/a/b/c", false),
            ("/a/*.toml", "/a/x.toml~", false),
            ("/a/?.toml", "/a/X.toml", true),
        ] {
            assert_eq!(pattern(text).matches(Path::new(path)), wanted, "{text} {path}");
        }
    }

    #[test]
    fn the_folders_on_the_way_are_known() {
        let pattern = pattern("/a/b/*/x.toml");
        for folder in ["/", "/a", "/a/b", "/a/b/c"] {
            assert!(pattern.leads_through(Path::new(folder)), "{folder}");
        }
        for other in ["/b", "/a/c", "/a/b/c/x.toml", "/a/b/c/y"] {
            assert!(!pattern.leads_through(Path::new(other)), "{other}");
        }
    }

    #[test]
    fn patterns_that_find_nothing_are_refused() {
        for bad in ["", "apps/", "apps/**/x", "apps/[a", "/", "..", "a\0b", "."] {
            let read = FilePattern::parse(Path::new("/"), bad);
            assert!(read.is_err(), "{bad:?} {read:?}");
        }
    }
}

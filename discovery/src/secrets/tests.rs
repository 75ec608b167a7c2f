use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;

struct Fixture {
    folder: TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("registry.keys")
    }

    fn put(&self, lines: &[&str]) {
        std::fs::write(self.path(), lines.join("\n")).unwrap();
        std::fs::set_permissions(self.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn keys(&self) -> Keys {
        Keys::open(&self.path()).unwrap()
    }
}

fn place(path: &str) -> Key {
    Key::parse(path).unwrap()
}

fn open(keys: &Keys, at: &str, value: &str) -> Result<Vec<u8>, String> {
    unseal(Some(keys), &place(at), value.as_bytes()).map(Cow::into_owned).map_err(|error| error.to_string())
}

#[test]
fn what_was_sealed_opens_at_its_own_place_and_nowhere_else() {
    let fixture = Fixture::new();
    fixture.put(&[&new_key("a").unwrap()]);
    let keys = fixture.keys();
    for plain in [&b""[..], b"{}", &vec![b'x'; max_plain()]] {
        let sealed = keys.seal(&place("app/shop"), plain).unwrap();
        assert!(sealed.len() <= MAX_VALUE_BYTES && is_sealed(sealed.as_bytes()));
        assert_eq!(open(&keys, "app/shop", &sealed).unwrap(), plain);
        assert_eq!(open(&keys, "app/shop", &format!(" {sealed}\n")).unwrap(), plain);
        assert!(open(&keys, "app/blog", &sealed).unwrap_err().contains("moved here"));
    }
    let twice = [(); 2].map(|()| keys.seal(&place("app/shop"), b"{}").unwrap());
    assert_ne!(twice[0], twice[1], "nobody sees that two values are the same");
    assert!(matches!(
        keys.seal(&place("app/shop"), &vec![0; max_plain() + 1]),
        Err(SecretError::TooLarge { .. })
    ));
}

#[test]
fn a_value_that_is_not_sealed_is_itself() {
    let value = br#"{"hosts": ["a.test"]}"#;
    assert!(matches!(unseal(None, &place("app/shop"), value), Ok(Cow::Borrowed(same)) if same == value));
}

#[test]
fn no_changed_byte_goes_unnoticed() {
    let fixture = Fixture::new();
    fixture.put(&[&new_key("a").unwrap(), &new_key("b").unwrap()]);
    let keys = fixture.keys();
    let sealed = keys.seal(&place("app/shop"), b"secret").unwrap();
    for at in 0..sealed.len() {
        for byte in [b'A', b'b', b':', 0xff] {
            let mut changed = sealed.clone().into_bytes();
            if changed[at] == byte {
                continue;
            }
            changed[at] = byte;
            // A changed mark makes it another kind of value, which is then no JSON.
            if is_sealed(&changed) {
                assert!(unseal(Some(&keys), &place("app/shop"), &changed).is_err(), "{at} {byte}");
            }
        }
    }
    for bad in ["", "1", "1:a", "1:a:", "2:a:AAAA", "1:a:%%", "1:a/b:AAAA", "1:a:AAAAAAAAAAAAAAAAAAAA"] {
        assert!(open(&keys, "app/shop", &format!("{MARK}{bad}")).is_err(), "{bad:?}");
    }
}

#[test]
fn keys_are_replaced_one_after_the_other_without_a_restart() {
    let fixture = Fixture::new();
    let (old, new) = (new_key("old").unwrap(), new_key("new").unwrap());
    fixture.put(&[&old]);
    let keys = fixture.keys();
    let by_old = keys.seal(&place("app/shop"), b"1").unwrap();
    fixture.put(&[&new, &old]);
    let by_new = fixture.keys().seal(&place("app/shop"), b"2").unwrap();
    assert!(by_old.contains(":old:") && by_new.contains(":new:"));
    // The process that had read the file before.
    assert_eq!(open(&keys, "app/shop", &by_new).unwrap(), b"2");
    assert_eq!(open(&keys, "app/shop", &by_old).unwrap(), b"1");
    fixture.put(&[&new]);
    assert!(open(&fixture.keys(), "app/shop", &by_old).unwrap_err().contains("\"old\""));
    // Another key of the same name opens nothing.
    fixture.put(&[&new_key("new").unwrap()]);
    assert!(open(&fixture.keys(), "app/shop", &by_new).unwrap_err().contains("was changed"));
}

#[test]
fn a_file_that_others_can_read_is_refused() {
    let fixture = Fixture::new();
    fixture.put(&[&new_key("a").unwrap()]);
    std::fs::set_permissions(fixture.path(), std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = Keys::open(&fixture.path()).unwrap_err().to_string();
    assert!(error.contains("registry.keys") && error.contains("chmod 600"), "{error}");
}

#[test]
fn who_has_no_keys_is_told_where_to_name_them() {
    let fixture = Fixture::new();
    fixture.put(&[&new_key("a").unwrap()]);
    let sealed = fixture.keys().seal(&place("app/shop"), b"{}").unwrap();
    let error = unseal(None, &place("app/shop"), sealed.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("registry.key_file"), "{error}");
}

//! `sluice vip` where there is none; what it does where there are is the suite `vip_lab`'s.

use tests::{Config, DEADLINE, Gateway, finish, sluice};

fn vip(gateway: &Gateway, words: &[&str]) -> tests::Finished {
    let mut command = sluice();
    command.arg("vip").args(words).env("SLUICE_ADMIN", format!("http://{}", gateway.admin()));
    finish(&mut command, "", DEADLINE)
}

#[test]
fn a_gateway_without_virtual_ips_says_so() {
    let gateway = Gateway::start(&Config::new());
    for words in
        [&["list"][..], &["move", "10.0.0.200", "gw-2"], &["drain"], &["drain", "--wait"], &["undrain"]]
    {
        let finished = vip(&gateway, words);
        assert_eq!(finished.code, Some(1), "{words:?}: {}", finished.text());
        assert!(finished.stderr.contains("its configuration has no [vip]"), "{words:?}: {}", finished.text());
    }
    let wrong = vip(&gateway, &["move", "10.0.0.200/24", "gw-2"]);
    assert_eq!(wrong.code, Some(1), "{}", wrong.text());
    assert_eq!(gateway.metrics().sum("sluice_vip_draining", &[]), None);
}

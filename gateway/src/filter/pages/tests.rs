use super::*;

fn page(format: Format) -> Page {
    let settings = Settings {
        title: Some("Fish & <Chips>".into()),
        text: Some("Call \"us\".\n\nNow.".into()),
        texts: vec![(503, "Back at noon.".into())],
    };
    Page { format, settings: Some(Arc::new(settings)), text: None }
}

#[test]
fn every_format_names_the_reason_and_escapes_what_others_wrote() {
    let html = page(Format::Html).render(404, Reason::UnknownPath, Some("<script>"), "0123");
    assert_eq!(html.content_type, "text/html; charset=utf-8");
    for part in [
        "<title>404 Not Found</title>",
        "<p class=\"who\">Fish &amp; &lt;Chips&gt;</p>",
        "<h1>404 Not Found</h1>\n<p>Call &quot;us&quot;.</p>\n<p>Now.</p>\n<p>&lt;script&gt;</p>",
        "unknown_path &middot; 0123",
    ] {
        assert!(html.body.contains(part), "{part}: {}", html.body);
    }
    assert!(!html.body.contains("<script"));
    let json = page(Format::Json).render(404, Reason::UnknownPath, Some("</script>"), "0123");
    assert_eq!(json.content_type, "application/problem+json");
    let value: serde_json::Value = serde_json::from_str(&json.body).unwrap();
    assert_eq!((&value["status"], &value["reason"]), (&404.into(), &"unknown_path".into()));
    assert_eq!((&value["title"], &value["request_id"]), (&"Not Found".into(), &"0123".into()));
    assert_eq!(value["detail"], "</script>\nCall \"us\".\n\nNow.");
    let text = page(Format::Text).render(404, Reason::UnknownPath, None, "0123");
    assert_eq!(text.body, "404 Not Found: unknown_path\nCall \"us\".\n\nNow.\n");
}

#[test]
fn a_status_may_have_its_own_text_and_the_filter_that_answers_too() {
    let mut page = page(Format::Text);
    let said = |page: &Page| page.render(503, Reason::NoHealthyEndpoint, None, "0").body;
    assert_eq!(said(&page), "503 Service Unavailable: no_healthy_endpoint\nBack at noon.\n");
    page.set_text(Some("Closed.".into()));
    assert_eq!(said(&page), "503 Service Unavailable: no_healthy_endpoint\nClosed.\n");
    let bare = Page { format: Format::Text, settings: None, text: None };
    assert_eq!(said(&bare), "503 Service Unavailable: no_healthy_endpoint\n");
}

#[test]
fn a_page_is_small_whatever_it_says() {
    let html = page(Format::Html).render(503, Reason::NoEndpoint, None, "0123");
    assert!(html.body.len() < 1_500, "{} bytes", html.body.len());
}

//! The page around charts and tables.

/// Text that stands for itself in HTML, attributes included.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A page under construction.
#[derive(Debug)]
pub(super) struct Page {
    title: String,
    subtitle: String,
    body: String,
}

impl Page {
    /// An empty page.
    pub(super) fn new(title: &str, subtitle: &str) -> Self {
        Self { title: escape(title), subtitle: escape(subtitle), body: String::new() }
    }

    /// Adds a section of what [`figure`], [`table`] and [`paragraph`] gave.
    pub(super) fn section(&mut self, id: &str, title: &str, content: &str) {
        self.body.push_str(&format!("<section id=\"{id}\"><h2>{}</h2>\n{content}</section>\n", escape(title)));
    }

    /// The whole page. Nothing in it runs, and it may ask nobody for anything: the policy says so to the browser.
    pub(super) fn finish(self) -> String {
        let Self { title, subtitle, body } = self;
        let style = include_str!("style.css");
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
             <link rel=\"icon\" href=\"data:,\">\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n\
             <p class=\"soft\">{subtitle}</p>\n{body}</main>\n</body>\n</html>\n"
        )
    }
}

/// A sentence or two.
pub(super) fn paragraph(text: &str) -> String {
    format!("<p>{}</p>\n", escape(text))
}

/// Charts side by side where there is room, each with its caption.
pub(super) fn figures(charts: &[(String, &str)]) -> String {
    let figure = |(svg, caption): &(String, &str)| {
        format!("<figure>{svg}<figcaption>{}</figcaption></figure>\n", escape(caption))
    };
    format!("<div class=\"charts\">\n{}</div>\n", charts.iter().map(figure).collect::<String>())
}

/// A table; columns named in `right` (by index) hold numbers.
pub(super) fn table(header: &[&str], right: &[usize], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let class = |index: usize| if right.contains(&index) { " class=\"n\"" } else { "" };
    let cells = |tag: &str, cells: &mut dyn Iterator<Item = String>| -> String {
        cells.enumerate().map(|(index, cell)| format!("<{tag}{}>{cell}</{tag}>", class(index))).collect()
    };
    let mut html = String::from("<div class=\"wide\"><table>\n<thead><tr>");
    html.push_str(&cells("th", &mut header.iter().map(|name| escape(name))));
    html.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        let row = cells("td", &mut row.iter().map(|cell| escape(cell).replace('\n', "<br>")));
        html.push_str(&format!("<tr>{row}</tr>\n"));
    }
    html.push_str("</tbody></table></div>\n");
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_wrote_stays_text() {
        let mut page = Page::new("<script>", "a & b");
        page.section("one", "\"two\"", &table(&["<b>"], &[0], [vec!["<img src=x onerror='y'>".to_owned()]]));
        let html = page.finish();
        assert!(!html.contains("<script>") && !html.contains("<img") && !html.contains("<b>"));
        assert!(html.contains("&lt;img src=x onerror=&#39;y&#39;&gt;") && html.contains("a &amp; b"));
    }
}

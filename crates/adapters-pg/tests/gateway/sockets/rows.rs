//! Every behaviour of the table, and what it must come to.

use super::server::{LISTED, MADE, Manners, REFUSED, Step, answer, json};
use super::shop::order_ref;
use super::table::{Row, Target, order};
use Step::{Close, Drip, Hang, Reset, Send, SendBytes};

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";

fn send(text: impl Into<String>) -> Step {
    Send(text.into())
}

/// The gateway does this after each payment request it has read.
fn after(what: &'static str, steps: Vec<Step>) -> Row {
    Row::new(what, Target::Server(Manners::answering(steps)))
}

fn status(what: &'static str, line: &str) -> Row {
    after(what, vec![send(answer(line, "Content-Type: text/html\r\n", "<html>"))])
}

/// An answer that the gateway itself gives, with its envelope.
fn envelope(what: &'static str, line: &str) -> Row {
    let body = REFUSED.replace("Bad Request", line.split_once(' ').unwrap_or_default().1);
    after(what, vec![send(json(line, &body))])
}

fn before_reading(what: &'static str, step: Step) -> Row {
    let manners = Manners { before_reading: vec![step], ..Manners::answering(vec![]) };
    Row::new(what, Target::Server(manners))
}

/// All rows, in the order of the document.
pub(crate) fn all() -> Vec<Row> {
    [connecting(), breaking(), bodies(), statuses(), redirects(), repeated()].concat()
}

fn connecting() -> Vec<Row> {
    vec![
        Row::new("connection refused", Target::Nobody).comes_to(
            "not reached (ConnectRefused)",
            4,
            order::FAILED,
        ),
        Row::new("connection neither accepted nor refused (full backlog)", Target::FullBacklog)
            .short_connect()
            .comes_to("not reached (ConnectTimeout)", 4, order::FAILED),
        Row::new("host name unknown", Target::UnknownHost).comes_to(
            "not reached (DnsFailure)",
            4,
            order::FAILED,
        ),
        Row::new(
            "TLS handshake answered with plain HTTP",
            Target::NoTls(vec![send("HTTP/1.1 400 Bad Request\r\n\r\n")]),
        )
        .comes_to("not reached (TlsFailure)", 4, order::FAILED),
        Row::new("TLS handshake: connection closed", Target::NoTls(vec![Close])).comes_to(
            "not reached (TlsFailure)",
            4,
            order::FAILED,
        ),
        Row::new("TLS handshake: connection reset", Target::NoTls(vec![Reset])).comes_to(
            "not reached (TlsFailure)",
            4,
            order::FAILED,
        ),
        Row::new("TLS handshake: silence", Target::NoTls(vec![Hang])).short_connect().comes_to(
            "not reached (ConnectTimeout)",
            4,
            order::FAILED,
        ),
    ]
}

fn breaking() -> Vec<Row> {
    vec![
        before_reading("reset before the request is read", Reset)
            .uncertain_any(&["ConnectionReset", "ConnectionClosed", "HttpClientError"], 0),
        before_reading("closed before the request is read", Close)
            .uncertain_any(&["ConnectionReset", "ConnectionClosed"], 0),
        after("reset after the request is read", vec![Reset]).uncertain("ConnectionReset"),
        after("closed before the answer's head", vec![Close]).uncertain("ConnectionClosed"),
        after("closed in the answer's head", vec![send("HTTP/1.1 200 OK\r\nContent-Ty"), Close])
            .uncertain("ConnectionClosed"),
        after(
            "closed after the head",
            vec![send(format!("{HEAD}Content-Length: {}\r\n\r\n", MADE.len())), Close],
        )
        .uncertain("ConnectionClosed"),
        after(
            "closed in the body",
            vec![send(format!("{HEAD}Content-Length: {}\r\n\r\n{}", MADE.len(), &MADE[..40])), Close],
        )
        .uncertain("ConnectionClosed"),
        after(
            "closed in a chunked body",
            vec![
                send(format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{}", MADE.len(), &MADE[..40])),
                Close,
            ],
        )
        .uncertain("ConnectionClosed"),
        after(
            "reset in the body",
            vec![send(format!("{HEAD}Content-Length: {}\r\n\r\n{}", MADE.len(), &MADE[..40])), Reset],
        )
        .uncertain_any(&["ConnectionReset", "ConnectionClosed"], 1),
        after("silence before the head", vec![Hang]).short_read().uncertain("ReadTimeout"),
        after("silence in the head", vec![send("HTTP/1.1 200 OK\r\nContent-Ty"), Hang])
            .short_read()
            .uncertain("ReadTimeout"),
        after(
            "silence before the body",
            vec![send(format!("{HEAD}Content-Length: {}\r\n\r\n", MADE.len())), Hang],
        )
        .short_read()
        .uncertain("ReadTimeout"),
        after(
            "silence in the body",
            vec![send(format!("{HEAD}Content-Length: {}\r\n\r\n{}", MADE.len(), &MADE[..40])), Hang],
        )
        .short_read()
        .uncertain("ReadTimeout"),
        after(
            "a body that drips, byte by byte",
            vec![send(format!("{HEAD}Content-Length: 60000\r\n\r\n")), Drip],
        )
        .short_read()
        .uncertain("ReadTimeout"),
        after("a head that drips, byte by byte", vec![send("HTTP/1.1 200 OK\r\nX-Slow: "), Drip])
            .short_read()
            .uncertain("ReadTimeout"),
    ]
}

fn bodies() -> Vec<Row> {
    vec![
        after("200 with a transaction key", vec![send(json("200 OK", MADE))]).comes_to(
            "accepted",
            1,
            order::IN_PROGRESS,
        ),
        after("201 with a transaction key", vec![send(json("201 Created", MADE))]).comes_to(
            "accepted",
            1,
            order::IN_PROGRESS,
        ),
        after(
            "200 with a status that nobody knows",
            vec![send(json("200 OK", &MADE.replace("PENDING", "REVIEWING")))],
        )
        .comes_to("accepted", 1, order::IN_PROGRESS),
        after("200 with garbage", vec![send(json("200 OK", "\u{0}\u{1}}{not json"))])
            .uncertain("UnreadableBody"),
        after("200 with an empty body", vec![send(json("200 OK", ""))]).uncertain("UnreadableBody"),
        after("204 without a body", vec![send("HTTP/1.1 204 No Content\r\n\r\n")])
            .uncertain("WrongContentType"),
        after(
            "200 with `data:null`",
            vec![send(json("200 OK", r#"{"meta":{"result":"SUCCESS"},"data":null}"#))],
        )
        .uncertain("NoData"),
        after(
            "200 with a key that can't be stored",
            vec![send(json("200 OK", &MADE.replace("20250816", "a b")))],
        )
        .uncertain("BadTransactionKey"),
        after("200 with `result:FAIL`", vec![send(json("200 OK", REFUSED))]).uncertain("ContradictoryBody"),
        after("200 with half of its JSON", vec![send(json("200 OK", &MADE[..60]))])
            .uncertain("UnreadableBody"),
        after(
            "200 with the wrong content type",
            vec![send(answer("200 OK", "Content-Type: text/html\r\n", MADE))],
        )
        .uncertain("WrongContentType"),
        after("200 without a content type", vec![send(answer("200 OK", "", MADE))])
            .uncertain("WrongContentType"),
        after(
            "200 that announces 10 MiB (refused unread)",
            vec![send(format!("{HEAD}Content-Length: 10485760\r\n\r\n")), Hang],
        )
        .uncertain("BodyTooLarge"),
        after(
            "200 with 10 MiB, unannounced",
            vec![send(format!("{HEAD}Connection: close\r\n\r\n")), SendBytes(10 << 20), Close],
        )
        .uncertain("BodyTooLarge"),
        after("not HTTP", vec![send("SSH-2.0-OpenSSH_9.2p1\r\n"), Close]).uncertain("MalformedHttp"),
        after(
            "100, then 200 with a transaction key",
            vec![send("HTTP/1.1 100 Continue\r\n\r\n"), send(json("200 OK", MADE))],
        )
        .comes_to("accepted", 1, order::IN_PROGRESS),
        after("103, then silence", vec![send("HTTP/1.1 103 Early Hints\r\n\r\n"), Hang])
            .short_read()
            .uncertain("ReadTimeout"),
        after(
            "101, another protocol",
            vec![send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")],
        )
        .uncertain("Http1xx"),
    ]
}

fn statuses() -> Vec<Row> {
    vec![
        after("400 with the error envelope", vec![send(json("400 Bad Request", REFUSED))]).comes_to("rejected", 1, order::REJECTED),
        status("400 without the envelope", "400 Bad Request").uncertain("Http400"),
        after("400 whose body is cut", vec![send("HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"), Close])
            .uncertain("Http400"),
        envelope("401", "401 Unauthorized").comes_to("misconfigured (401)", 1, order::REJECTED),
        envelope("403", "403 Forbidden").comes_to("misconfigured (403)", 1, order::REJECTED),
        envelope("404", "404 Not Found").comes_to("misconfigured (404)", 1, order::REJECTED),
        envelope("405", "405 Method Not Allowed").comes_to("misconfigured (405)", 1, order::REJECTED),
        envelope("408", "408 Request Timeout").uncertain("Http408"),
        envelope("409", "409 Conflict").uncertain("Http409"),
        envelope("422", "422 Unprocessable Content").uncertain("Http422"),
        after("429 with `Retry-After: 1`", vec![send(answer("429 Too Many Requests", "Retry-After: 1\r\n", ""))])
            .waits_a_second()
            .comes_to("not reached (Http429)", 4, order::FAILED),
        after("429 with `Retry-After: 3600`", vec![send(answer("429 Too Many Requests", "Retry-After: 3600\r\n", ""))])
            .comes_to("not reached (Http429)", 1, order::FAILED),
        envelope("500, nothing created", "500 Internal Server Error").comes_to("not reached (Http500)", 4, order::FAILED_WATCHED).asked(4),
        Row::new("500 although the transaction was created", Target::Server(Manners {
            look_up: vec![send(json("200 OK", &LISTED.replace("000007", order_ref().as_str())))],
            ..Manners::answering(vec![send(json("500 Internal Server Error", REFUSED))])
        }))
        .comes_to("not reached (Http500)", 1, order::IN_PROGRESS)
        .asked(1),
        Row::new("500, and questions are answered with 500 too", Target::Server(Manners {
            look_up: vec![send(json("500 Internal Server Error", REFUSED))],
            ..Manners::answering(vec![send(json("500 Internal Server Error", REFUSED))])
        }))
        .comes_to("not reached (Http500)", 4, order::FAILED_WATCHED)
        .asked(4),
        after("500 whose body never comes", vec![send("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 9\r\n\r\n"), Hang])
            .medium_read()
            .comes_to("not reached (Http500)", 4, order::FAILED_WATCHED)
            .asked(4),
        envelope("501", "501 Not Implemented").uncertain("Http501"),
        envelope("502", "502 Bad Gateway").uncertain("Http502"),
        envelope("503", "503 Service Unavailable").comes_to("not reached (Http503)", 4, order::FAILED_WATCHED).asked(4),
        envelope("504", "504 Gateway Timeout").uncertain("Http504"),
        envelope("599, a status that nobody knows", "599 Whatever").uncertain("HttpOther"),
    ]
}

fn redirects() -> Vec<Row> {
    let to = |what, line: &str| {
        after(
            what,
            vec![send(answer(
                line,
                "Location: /api/v1/payments\r\nContent-Type: application/json\r\n",
                MADE,
            ))],
        )
        .uncertain("Redirect")
    };
    vec![
        to("301 (not followed)", "301 Moved Permanently"),
        to("302 (not followed)", "302 Found"),
        to("307 (not followed)", "307 Temporary Redirect"),
        to("308 (not followed)", "308 Permanent Redirect"),
    ]
}

fn repeated() -> Vec<Row> {
    let changing = |what, answers: Vec<Vec<Step>>| {
        Row::new(what, Target::Server(Manners { answers, ..Manners::answering(vec![]) }))
    };
    let error = || vec![send(json("500 Internal Server Error", REFUSED))];
    vec![
        changing("500, then 200 with a transaction key", vec![error(), vec![send(json("200 OK", MADE))]])
            .comes_to("not reached (Http500), accepted", 2, order::IN_PROGRESS_WATCHED)
            .asked(1),
        changing("500, then silence", vec![error(), vec![Hang]])
            .medium_read()
            .comes_to("not reached (Http500), uncertain (ReadTimeout)", 2, order::UNCERTAIN_WATCHED)
            .asked(1),
        changing(
            "500, then 400 with the error envelope",
            vec![error(), vec![send(json("400 Bad Request", REFUSED))]],
        )
        .comes_to("not reached (Http500), rejected", 2, order::REJECTED_WATCHED)
        .asked(2),
    ]
}

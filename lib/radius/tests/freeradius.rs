//! The client against a real FreeRADIUS.
//!
//! `RADIUS_TEST_SERVER` names an address where FreeRADIUS answers on ports 1812 and 1813 with secret `testing123` and knows
//! `bob Cleartext-Password := "hello"` with a Framed-IP-Address, a Class and SN-VPN-Name "isp".

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crypto::SystemRandom;
use eap::{Action, Authenticator, Start, Verdict};
use radius::{
    Attribute, Client, Code, Completion, Config, Counter, Failure, Output, Reply, Request, Secret, Server,
    Service,
};

mod support;

struct Shell {
    client: Client,
    socket: UdpSocket,
}

impl Shell {
    fn new(service: Service, secret: &str) -> Self {
        let address: IpAddr = std::env::var("RADIUS_TEST_SERVER")
            .expect("RADIUS_TEST_SERVER")
            .parse()
            .expect("address");
        let port = if service == Service::Authentication {
            1812
        } else {
            1813
        };
        let server = Server {
            address: SocketAddr::new(address, port),
            secret: Secret::new(secret.into()),
            priority: 1,
        };
        let timeout = Duration::from_millis(500);
        let config = Config {
            servers: vec![server],
            timeout,
            max_retries: 1,
            ..Config::default()
        };
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        Self {
            client: Client::new(service, config, Box::new(SystemRandom)),
            socket,
        }
    }

    fn ask(&mut self, request: Request) -> Result<Reply, Failure> {
        let asked = self.client.submit(Instant::now(), request).unwrap();
        let mut buffer = [0; 4096];
        loop {
            while let Some(output) = self.client.poll_output() {
                match output {
                    Output::Transmit { server, bytes, .. } => {
                        self.socket.send_to(&bytes, server).unwrap();
                    }
                    Output::Completed(Completion { ticket, result }) => {
                        assert_eq!(ticket, asked);
                        return result;
                    }
                    Output::ServerDown(_) | Output::ServerUp(_) => {}
                }
            }
            let wait = self
                .client
                .next_timeout()
                .unwrap()
                .saturating_duration_since(Instant::now());
            self.socket
                .set_read_timeout(Some(wait.max(Duration::from_millis(1))))
                .unwrap();
            match self.socket.recv_from(&mut buffer) {
                Ok((length, from)) => self.client.receive(Instant::now(), from, 0, &buffer[..length]),
                Err(_) => self.client.handle_timeout(Instant::now()),
            }
        }
    }

    fn counter(&self, counter: Counter) -> u64 {
        self.client.servers().next().unwrap().counters.get(counter)
    }
}

fn access(user: &str, eap: Option<&[u8]>, last: Option<&Reply>) -> Request {
    let mut request = Request {
        server: last.map(Reply::server),
        ..Request::default()
    };
    request.attributes.text(Attribute::UserName, user).unwrap();
    request
        .attributes
        .text(Attribute::NasIdentifier, "starward")
        .unwrap();
    if let Some(state) = last.and_then(|reply| reply.packet().value(Attribute::State)) {
        request.attributes.octets(Attribute::State, state).unwrap();
    }
    if let Some(eap) = eap {
        request.attributes.eap(eap).unwrap();
    }
    request
}

/// FreeRADIUS before 3.2.5 signs replies without EAP only with the Response Authenticator: such an Accept is not believed.
#[test]
#[ignore = "needs RADIUS_TEST_SERVER"]
fn password_is_accepted_only_with_message_authenticator() {
    let mut shell = Shell::new(Service::Authentication, "testing123");
    let mut request = access("bob", None, None);
    request.password = Some(Secret::new(b"hello".to_vec()));
    match shell.ask(request) {
        Ok(reply) => assert_eq!(reply.code(), Code::AccessAccept),
        Err(failure) => {
            assert_eq!(failure, Failure::Timeout);
            assert!(shell.counter(Counter::NoMessageAuthenticator) > 0);
            assert_eq!(
                shell.counter(Counter::BadAuthenticator),
                0,
                "secret and password were right"
            );
        }
    }
}

#[test]
#[ignore = "needs RADIUS_TEST_SERVER"]
fn wrong_secret_is_never_believed() {
    let mut shell = Shell::new(Service::Authentication, "other");
    assert!(matches!(
        shell.ask(access("bob", None, None)),
        Err(Failure::Timeout)
    ));
    assert_eq!(shell.counter(Counter::RequestTimeouts), 1);
    assert_eq!(
        shell.counter(Counter::AcceptsReceived) + shell.counter(Counter::RejectsReceived),
        0
    );
}

#[test]
#[ignore = "needs RADIUS_TEST_SERVER"]
fn eap_mschapv2_is_relayed_and_keys_agree() {
    let mut shell = Shell::new(Service::Authentication, "testing123");
    for (password, good) in [("hello", true), ("guess", false)] {
        let mut peer = support::Peer::new("bob", password);
        let mut eap = Authenticator::new();
        let mut action = eap.start(Start::Identity(b"bob")).unwrap();
        let mut last: Option<Reply> = None;
        let success = loop {
            action = match action {
                Action::ToPeer(request) => eap.from_peer(&peer.answer(&request)).unwrap(),
                Action::ToAaa(response) => {
                    let reply = shell.ask(access("bob", Some(&response), last.as_ref())).unwrap();
                    let verdict = match reply.code() {
                        Code::AccessAccept => Verdict::Accept,
                        Code::AccessReject => Verdict::Reject,
                        _ => Verdict::Challenge,
                    };
                    let message = reply.packet().eap();
                    last = Some(reply);
                    eap.from_aaa(verdict, message.as_deref()).unwrap()
                }
                Action::Succeed(_) => break true,
                Action::Fail(..) => break false,
            };
        };
        assert_eq!(success, good);
        assert_eq!(eap.method(), Some(eap::Method::MSCHAPV2));
        let last = last.unwrap();
        let keys = last.mppe_keys();
        assert_eq!(keys.is_some(), good);
        let packet = last.packet();
        let address = packet.ipv4(Attribute::FramedIpAddress);
        assert_eq!(address, good.then_some([10, 30, 0, 77].into()));
        assert_eq!(packet.value(Attribute::Class), good.then_some(&b"class"[..]));
        assert_eq!(packet.text(Attribute::SnVpnName), good.then_some("isp"));
        assert_eq!(
            packet.text(Attribute::ThreeGppImsi),
            good.then_some("001010123456789")
        );
        if let Some(keys) = keys {
            assert_eq!(*keys.msk().unwrap(), peer.msk(), "both ends have the same MSK");
        }
    }
}

#[test]
#[ignore = "needs RADIUS_TEST_SERVER"]
fn accounting_is_acknowledged() {
    let mut shell = Shell::new(Service::Accounting, "testing123");
    for status in [1, 3, 2] {
        let mut request = Request::default();
        request
            .attributes
            .integer(Attribute::AcctStatusType, status)
            .unwrap();
        request
            .attributes
            .text(Attribute::AcctSessionId, "00000001")
            .unwrap();
        request.attributes.text(Attribute::UserName, "bob").unwrap();
        request
            .attributes
            .ipv4(Attribute::FramedIpAddress, [10, 30, 0, 77].into())
            .unwrap();
        request
            .attributes
            .ipv4(Attribute::NasIpAddress, [127, 0, 0, 1].into())
            .unwrap();
        assert_eq!(shell.ask(request).unwrap().code(), Code::AccountingResponse);
    }
    assert_eq!(shell.counter(Counter::ResponsesReceived), 3);
}

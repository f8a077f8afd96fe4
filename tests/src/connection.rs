//! Both sides of a connection, written down once: what strongSwan's swanctl.conf says and what our configuration says.

/// A connection of a test: the defaults are net-to-net with a pre-shared key, AES-GCM-128 and group 31.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Our context, which holds everything of ours.
    pub context: &'static str,
    /// Our network devices: towards the peer, towards the host.
    pub devices: [&'static str; 2],
    /// IKE proposal in strongSwan's words.
    pub ike: &'static str,
    /// ESP proposal in strongSwan's words.
    pub esp: &'static str,
    /// Lines of our `ikev2-ikesa transform-set`.
    pub our_ike: &'static str,
    /// Lines of our `ipsec transform-set`.
    pub our_esp: &'static str,
    /// The peer's pre-shared key.
    pub secret: &'static str,
    /// Our pre-shared key.
    pub our_secret: &'static str,
    /// Peer's outer address.
    pub outer: &'static str,
    /// Our outer address.
    pub our_outer: &'static str,
    /// Selectors on the peer's side; empty: virtual addresses are asked for instead.
    pub local_ts: &'static str,
    /// Selectors on our side.
    pub remote_ts: &'static str,
    /// Virtual addresses the peer asks for (`0.0.0.0`, `::`).
    pub vips: &'static str,
    /// More lines in the peer's connection.
    pub more: String,
    /// More lines in the peer's child.
    pub more_child: String,
    /// More lines in our crypto template.
    pub our_template: String,
    /// More lines in our payload.
    pub our_payload: String,
    /// More lines in our wsg-service.
    pub our_service: String,
    /// More lines in our context.
    pub our_context: String,
    /// Lines at the top level of our configuration.
    pub our_global: String,
}

impl Default for Connection {
    fn default() -> Self {
        Self {
            context: "local",
            devices: ["vran", "vcore"],
            ike: "aes128gcm16-prfsha256-curve25519",
            esp: "aes128gcm16",
            our_ike: "encryption aes-128-gcm-128\nhmac none\nprf sha2-256\ngroup 31",
            our_esp: "encryption aes-128-gcm-128\nhmac none",
            secret: "correct horse battery",
            our_secret: "correct horse battery",
            outer: "10.10.0.1",
            our_outer: "10.10.0.2",
            local_ts: "10.20.1.1/32",
            remote_ts: "10.20.2.0/24",
            vips: "",
            more: String::new(),
            more_child: String::new(),
            our_template: String::new(),
            our_payload: String::new(),
            our_service: String::new(),
            our_context: String::new(),
            our_global: String::new(),
        }
    }
}

impl Connection {
    /// A remote-access peer that asks for these virtual addresses; the pools are 10.30.0.0/24 and fd30::/48.
    pub fn remote_access(vips: &'static str) -> Self {
        Self {
            vips,
            local_ts: "",
            remote_ts: "10.20.2.0/24,fd20:2::/64",
            our_context: "ip pool v4 10.30.0.0 255.255.255.0\nipv6 pool v6 prefix fd30::/48\n".to_owned(),
            our_service:
                "deployment-mode remote-access\nip address pool name v4\nipv6 address prefix-pool v6\n"
                    .to_owned(),
            our_payload: "ip-address-allocation dynamic\n".to_owned(),
            ..Self::default()
        }
    }

    /// The peer's swanctl.conf as initiator, with one connection `gw` and one child `net`.
    pub fn swanctl(&self) -> String {
        let vips = if self.vips.is_empty() {
            String::new()
        } else {
            format!("    vips = {}\n", self.vips)
        };
        let local_ts = if self.local_ts.is_empty() {
            String::new()
        } else {
            format!("        local_ts = {}\n", self.local_ts)
        };
        format!(
            "connections {{\n  gw {{\n    version = 2\n    local_addrs = {outer}\n    remote_addrs = {our_outer}\n    proposals = {ike}\n{vips}{more}\n    \
             local {{\n      auth = psk\n      id = peer.test\n    }}\n    remote {{\n      auth = psk\n      id = gw.test\n    }}\n    \
             children {{\n      net {{\n{local_ts}        remote_ts = {remote_ts}\n        esp_proposals = {esp}\n{more_child}\n      }}\n    }}\n  }}\n}}\n\
             secrets {{\n  ike-gw {{\n    id = gw.test\n    secret = \"{secret}\"\n  }}\n}}\n",
            outer = self.outer,
            our_outer = self.our_outer,
            ike = self.ike,
            esp = self.esp,
            more = self.more,
            more_child = self.more_child,
            remote_ts = self.remote_ts,
            secret = self.secret,
        )
    }

    /// Our configuration.
    pub fn configuration(&self) -> String {
        format!(
            "config\nsystem hostname gw\n{}\n{}{}end\n",
            self.our_global,
            self.our_context(),
            self.our_ports(10)
        )
    }

    /// Our context.
    pub fn our_context(&self) -> String {
        let service = if self.our_service.is_empty() {
            "deployment-mode site-to-site\n"
        } else {
            &self.our_service
        };
        format!(
            "context {name}\n\
             interface ran\nip address 10.10.0.2 255.255.255.0\nipv6 address fd10::2/64 secondary\n#exit\n\
             interface core\nip address 10.20.2.254 255.255.255.0\nipv6 address fd20:2::fe/64 secondary\n#exit\n\
             {context}\n\
             ipsec transform-set esp\n{our_esp}\n#exit\n\
             ikev2-ikesa transform-set ike\n{our_ike}\n#exit\n\
             crypto template t ikev2-dynamic\n\
             authentication local pre-shared-key key \"{secret}\"\n\
             authentication remote pre-shared-key key \"{secret}\"\n\
             identity local id-type fqdn id gw.test\n\
             ikev2-ikesa transform-set list ike\n\
             {template}\n\
             payload p match childsa match any\n\
             ipsec transform-set list esp\n{payload}\n#exit\n\
             #exit\n\
             wsg-service wsg\n{service}bind address {our_outer} crypto-template t\n#exit\n\
             #exit\n",
            name = self.context,
            context = self.our_context,
            our_esp = self.our_esp,
            our_ike = self.our_ike,
            secret = self.our_secret,
            template = self.our_template,
            payload = self.our_payload,
            our_outer = self.our_outer,
        )
    }

    /// Our two ports, numbered from `first` on.
    pub fn our_ports(&self, first: u32) -> String {
        let port = |number: u32, device: &str, interface: &str| {
            format!(
                "port ethernet 1/{number}\ndevice {device}\nno shutdown\nbind interface {interface} {}\n#exit\n",
                self.context
            )
        };
        let [ran, core] = self.devices;
        port(first, ran, "ran") + &port(first + 1, core, "core")
    }
}

//! What is typed at a terminal.

use std::time::Duration;

use crate::terminal::Terminal;

#[test]
fn question_mark_shows_help_at_once_and_keeps_the_line() {
    let mut shell = Terminal::start("help");
    shell.type_in("show cl?");
    shell.expect("clock  Shows date and time");
    shell.expect("[local]gw# show cl");
    shell.type_in("\r");
    shell.expect("20");
    shell.type_in("configure\r");
    shell.expect("[local]gw(config)# ");
    shell.type_in("context isp\rYes\rwsg-service s\rbind address ?");
    shell.expect("<address>  Local address: an IPv4 or IPv6 address");
}

#[test]
fn question_mark_and_tab_work_after_a_pipe() {
    let mut shell = Terminal::start("stages");
    shell.type_in("show version | ?");
    shell.expect("grep  Prints the lines that match");
    shell.expect("more  Prints a page at a time");
    shell.expect("[local]gw# show version | ");
    shell.type_in("gr\tImage\r");
    shell.expect("\r\n  Image Version:");
    shell.type_in("show version | grep ?");
    shell.expect("<pattern>  What to look for");
}

#[test]
fn question_mark_and_tab_know_exec_commands_in_configuration_modes() {
    let mut shell = Terminal::start("exec-in-configuration");
    shell.type_in("configure\r?");
    shell.expect("context ");
    shell.expect("do ");
    shell.expect("show ");
    shell.type_in("show cl?");
    shell.expect("clock  Shows date and time");
    shell.expect("(config)# show cl");
    shell.type_in("\u{15}do show clo\t| grep ?");
    shell.expect("<pattern>  What to look for");
    shell.expect("do show clock | grep ");
    shell.type_in("\u{15}do ?");
    shell.expect("show  Shows state");
    shell.expect("(config)# do ");
    shell.type_in("\u{15}do show terminal\r");
    shell.expect("Terminal length");
    shell.type_in("do context local\r");
    shell.expect("Failure: only show commands run in configuration mode");
}

#[test]
fn question_mark_keeps_what_stands_after_it() {
    let mut shell = Terminal::start("middle");
    // Back over "clock", and ask.
    shell.type_in("terminal length 0\rshow clock\u{1b}[D\u{1b}[D\u{1b}[D\u{1b}[D\u{1b}[D?");
    shell.expect("Shows the version of the software");
    shell.expect("[local]gw# show clock");
    shell.type_in("\r");
    shell.expect(" 20");
}

#[test]
fn help_comes_in_pages() {
    let mut shell = Terminal::start("help-pages");
    shell.type_in("terminal length 4\rshow ?");
    shell.expect("--More--");
    shell.type_in("q");
    shell.expect("[local]gw# show ");
    assert!(!shell.raw.contains("wsg-service"), "{}", shell.raw);
}

#[test]
fn tab_completes_what_is_unique() {
    let mut shell = Terminal::start("tab");
    shell.type_in("termi\tle\t7\r");
    shell.type_in("show termi\t\r");
    shell.expect("Terminal length: 7");
}

#[test]
fn objects_are_completed_and_must_exist() {
    let mut shell = Terminal::start("objects");
    shell.type_in("configure\rcontext isp\ry\rcrypto template enodeb\rexit\rcrypto template en\t\r");
    shell.expect("(crf-crypto-enodeb-ikev2-tunnel)# ");
    shell.expect("(crf-crypto-enodeb-ikev2-tunnel)# ");
    shell.type_in("end\rcontext i\t\r");
    shell.expect("[isp]gw# ");
    shell.type_in("show crypto template tag nope\r");
    shell.expect("Failure: there is no crypto template nope in context isp");
    shell.type_in("show wsg-service all nope\r");
    shell.expect("Failure: there is no wsg-service nope");
    shell.type_in("context nope\r");
    shell.expect("Failure: there is no context nope");
}

#[test]
fn what_is_unfinished_is_told_when_the_mode_is_left() {
    let mut shell = Terminal::start("unfinished");
    shell.type_in("configure\rcontext isp\rYes\rikev2-ikesa transform-set i\rwsg-service s\r");
    shell.expect("Warning: context isp, ikev2-ikesa transform-set i: group 2 is weak");
    shell.expect("(config-wsg-service)# ");
    shell.type_in("duplicate-session-detection\r");
    shell.expect("\r\n");
    shell.expect("(config-wsg-service)# ");
    assert!(!shell.raw.contains("not bound"), "{}", shell.raw);
    shell.type_in("exit\r");
    shell.expect("Warning: context isp, wsg-service s: it is not bound");
    // Once is enough.
    shell.type_in("end\r");
    shell.expect("[local]gw# ");
    assert_eq!(shell.raw.matches("not bound").count(), 1, "{}", shell.raw);
}

#[test]
fn what_cannot_be_undone_is_asked_for() {
    let mut shell = Terminal::start("sure");
    shell.type_in("configure\rcontext isp\r");
    shell.expect("Are you sure ? [Yes | No]: ");
    shell.type_in("n\r");
    shell.expect("[local]gw(config)# ");
    shell.type_in("end\rsave configuration /flash/there.cfg\r");
    shell.expect("Are you sure ? [Yes | No]: ");
    shell.type_in("No\r");
    shell.expect("[local]gw# ");
    shell.type_in("save configuration /flash/there.cfg -noconfirm\r");
    shell.expect("saved to /flash/there.cfg");
    shell.type_in("save configuration /flash/new.cfg\r");
    shell.expect("saved to /flash/new.cfg");
    // Everything in a context goes with it.
    shell.type_in("configure\rcontext isp -noconfirm\rexit\rno context isp\r");
    shell.expect("Are you sure ? [Yes | No]: ");
    shell.type_in("no\rno context isp -noconfirm\rcontext isp\r");
    shell.expect("Are you sure ? [Yes | No]: ");
    shell.type_in("no\rend\rtask kill facility sct instance 1\r");
    shell.expect("Are you sure ? [Yes | No]: ");
    shell.type_in("no\rdefault terminal length\rend\r");
    shell.type_in("terminal width 20\rshow version\r");
    shell.expect("\r\n  Image Version:    \r\n");
    assert_eq!(shell.raw.matches("saved to").count(), 2);
    assert!(!shell.config.lock().unwrap().contexts.contains_key("isp"));
}

#[test]
fn an_interrupt_ends_the_command_and_not_the_shell() {
    let mut shell = Terminal::start("interrupt");
    // Nobody answers this one, so that it waits.
    shell.type_in("show task table\r");
    shell.expect("show task table\r\n");
    let process = nix::unistd::Pid::from_raw(i32::try_from(shell.shell.id()).unwrap());
    // Until it listens to interrupts they would end it.
    while !catches(process, nix::sys::signal::Signal::SIGINT) {
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(300));
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGINT).unwrap();
    shell.expect("[local]gw# ");
    assert!(
        !shell.raw.contains("does not answer"),
        "the command was waited for"
    );
    shell.type_in("configure\r");
    shell.expect("[local]gw(config)# ");
    shell.type_in("show task table\r");
    shell.expect("show task table\r\n");
    std::thread::sleep(Duration::from_millis(300));
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGINT).unwrap();
    shell.expect("[local]gw(config)# ");
}

/// Whether a process has a handler for the signal (proc_pid_status(5)).
fn catches(process: nix::unistd::Pid, signal: nix::sys::signal::Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = u64::from_str_radix(caught.unwrap().trim(), 16).unwrap();
    caught >> (signal as u32 - 1) & 1 == 1
}

#[test]
fn modes_have_their_prompts_and_the_context_is_shown() {
    let mut shell = Terminal::start("modes");
    shell.type_in("conf\r");
    shell.expect("[local]gw(config)# ");
    shell.type_in("cont isp\r");
    shell.expect("Are you sure ? [Yes | No]: ");
    shell.type_in("yes\r");
    shell.expect("[isp]gw(config-ctx)# ");
    shell.type_in("crypto template t\r");
    shell.expect("[isp]gw(crf-crypto-t-ikev2-tunnel)# ");
    shell.type_in("payload p match childsa\r");
    shell.expect("(crf-crypto-tmpl-payload-p)# ");
    shell.type_in("exit\r");
    shell.expect("[isp]gw(crf-crypto-t-ikev2-tunnel)# ");
    // A command of the mode around this one leads there.
    shell.type_in("interface ran\r");
    shell.expect("[isp]gw(config-if-eth)# ");
    shell.type_in("end\r");
    shell.expect("[local]gw# ");
    shell.type_in("context isp\r");
    shell.expect("[isp]gw# ");
}

#[test]
fn a_pasted_configuration_is_run_line_by_line() {
    let mut shell = Terminal::start("paste");
    assert!(
        !shell.raw.contains("\u{1b}[?2004h"),
        "the terminal must not bundle what is pasted"
    );
    let mut text = "autoconfirm\rconfigure\rcontext isp\r".to_owned();
    for number in 1..=40 {
        text.push_str(&format!(
            "interface i{number}\rip address 10.0.{number}.1 255.255.255.0\rexit\r"
        ));
    }
    text.push_str("interface last\rip address 10.1.0.1 255.255.255.0\rend\rshow terminal\r");
    shell.type_in(&text);
    shell.expect("Terminal length");
    for number in 1..=40 {
        assert!(
            shell.config.lock().unwrap().contexts["isp"]
                .interfaces
                .contains_key(&format!("i{number}")),
            "{number}"
        );
    }
}

#[test]
fn errors_point_at_the_word() {
    let mut shell = Terminal::start("errors");
    shell.type_in("show klock\r");
    shell.expect("\r\n                ^\r\nFailure: Unexpected \"klock\"");
    shell.type_in("show crypto map\r");
    shell.expect("Failure: not supported: show crypto map");
    shell.type_in("conf\rcontext isp\rYes\rinterface i\rip address 10.0.0.1 255.0.255.0\r");
    shell.expect("^\r\nFailure: \"255.0.255.0\" is not a netmask");
}

#[test]
fn pages_and_pipes() {
    let mut shell = Terminal::start("pages");
    shell.type_in("terminal length 3\rshow version verbose\r");
    shell.expect("Image Version");
    shell.expect("--More--");
    shell.type_in("q");
    shell.expect("[local]gw# ");
    shell.type_in("terminal length 0\rshow version | grep -i IMAGE\r");
    shell.expect("| grep -i IMAGE\r\n  Image Version");
}

//! The configurations of the caching servers. Each collapses requests for the same object into one fetch.

use std::fs::{create_dir, write};
use std::process::Command;

use anyhow::Result;
use rustix::process::geteuid;

use crate::storm::server::{Place, Recipe};

pub const PEERS: [Recipe; 4] = [
    Recipe {
        name: "Traffic Server",
        program: "traffic_server",
        package: "trafficserver",
        configure: configure_traffic_server,
    },
    Recipe {
        name: "Varnish",
        program: "varnishd",
        package: "varnish",
        configure: |place, command| {
            configure_varnish(place, command);
            Ok(())
        },
    },
    Recipe {
        name: "nginx",
        program: "nginx",
        package: "nginx",
        configure: |place, command| {
            configure_nginx(place, command, "proxy_cache_lock_timeout 600s; proxy_cache_lock_age 600s;")
        },
    },
    Recipe {
        name: "nginx, default time-outs",
        program: "nginx",
        package: "nginx",
        configure: |place, command| configure_nginx(place, command, ""),
    },
];

/// A reader gets the bytes of an object while it is written, and a fetch goes on when its reader has left.
fn configure_traffic_server(place: &Place, command: &mut Command) -> Result<()> {
    let directory = place.directory.display();
    for name in ["etc", "share", "var", "run", "log", "cache"] {
        create_dir(place.directory.join(name))?;
    }
    let layout = format!(
        "prefix: {directory}\nexec_prefix: {directory}\nbindir: /usr/bin\nsbindir: /usr/bin\nsysconfdir: {directory}/etc\n\
        datadir: {directory}/share\nincludedir: /usr/include\nlibdir: /usr/lib/trafficserver\n\
        libexecdir: /usr/lib/trafficserver/modules\nlocalstatedir: {directory}/var\nruntimedir: {directory}/run\n\
        logdir: {directory}/log\ncachedir: {directory}/cache\n"
    );
    write(place.directory.join("runroot.yaml"), layout)?;
    let values = [
        ("http.server_ports", format!("STRING {}:ip-in=127.0.0.1", place.port)),
        // It stays the present user.
        ("admin.user_id", "STRING #-1".to_owned()),
        ("crash_log_helper", "STRING NULL".to_owned()),
        ("http.wait_for_cache", "INT 1".to_owned()),
        ("http.cache.required_headers", "INT 0".to_owned()),
        ("cache.enable_read_while_writer", "INT 1".to_owned()),
        // Who finds the object being written tries to read it again.
        ("http.cache.open_write_fail_action", "INT 5".to_owned()),
        ("http.cache.max_open_write_retries", "INT 1".to_owned()),
        ("http.cache.max_open_read_retries", "INT 1000".to_owned()),
        ("http.cache.open_read_retry_time", "INT 10".to_owned()),
        ("http.background_fill_active_timeout", "INT 0".to_owned()),
        ("http.background_fill_completed_threshold", "FLOAT 0.0".to_owned()),
        ("log.logging_enabled", "INT 0".to_owned()),
    ];
    let lines = values.map(|(name, value)| format!("CONFIG proxy.config.{name} {value}\n"));
    write(place.directory.join("etc/records.config"), lines.concat())?;
    write(place.directory.join("etc/hosting.config"), "")?;
    let rights = "ip_allow:\n  - apply: in\n    ip_addrs: 127.0.0.1\n    action: allow\n    methods: ALL\n";
    write(place.directory.join("etc/ip_allow.yaml"), rights)?;
    write(place.directory.join("etc/storage.config"), format!("{directory}/cache 512M\n"))?;
    write(place.directory.join("etc/remap.config"), format!("map / http://{}/\n", place.origin))?;
    command.env("TS_RUNROOT", &place.directory);
    Ok(())
}

/// In memory, since a storage of Varnish in a file does not outlive it either.
fn configure_varnish(place: &Place, command: &mut Command) {
    command.args(["-F", "-j", "none", "-T", "none", "-s", "malloc,512M"]);
    command.args(["-a", &format!("127.0.0.1:{}", place.port), "-b", &place.origin.to_string()]);
    command.arg("-n").arg(place.directory.join("work"));
}

/// One request fetches an object; the others wait for it, as long as `time_outs` has it.
fn configure_nginx(place: &Place, command: &mut Command, time_outs: &str) -> Result<()> {
    let directory = place.directory.display();
    let (port, origin) = (place.port, place.origin);
    // As root, its processes would be another user's, who cannot write here.
    let user = if geteuid().is_root() { "user root;" } else { "" };
    let text = format!(
        "{user}\ndaemon off;\nworker_processes auto;\npid {directory}/nginx.pid;\nerror_log {directory}/error.log;\n\
        events {{ worker_connections 1024; }}\n\
        http {{\n\
        access_log off;\n\
        client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;\n\
        uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;\n\
        proxy_cache_path {directory}/cache levels=1:2 keys_zone=images:1m max_size=1g inactive=1h use_temp_path=off;\n\
        server {{\n\
        listen 127.0.0.1:{port};\n\
        location / {{\n\
        proxy_pass http://{origin};\n\
        proxy_http_version 1.1;\n\
        proxy_set_header Connection \"\";\n\
        proxy_cache images;\n\
        proxy_cache_valid 200 1h;\n\
        proxy_cache_lock on; {time_outs}\n\
        }} }} }}\n"
    );
    let file = place.directory.join("nginx.conf");
    write(&file, text)?;
    command.arg("-e").arg(place.directory.join("error.log")).arg("-p").arg(&place.directory).arg("-c").arg(file);
    Ok(())
}

//! The servers in the pods.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use crate::netns::wait_until;
use crate::{Host, NODES, World, WorldError};

/// Starts nginx and the UDP responder in every pod and waits until they listen.
///
/// nginx answers `/` with the pod's name and `/client` with the client's address, serves the world's `files` directory
/// under `/files/`, and under `/slow/` with 10 kB a second for each connection, and takes uploads with PUT under `/upload/`, which end in the directory `upload-NAME`. The UDP responder echoes on port 7 and answers
/// questions on port 53 with the pod's address and name.
pub(crate) fn start(world: &World) -> Result<(), WorldError> {
    let io = |error| WorldError::io("cannot prepare the pods", &error);
    let directory = world.directory();
    fs::create_dir_all(directory.join("files")).map_err(io)?;
    fs::write(directory.join("pod.py"), include_str!("pod.py")).map_err(io)?;
    for host in Host::pods() {
        let Host::Pod(node, pod) = host else { continue };
        let name = host.name();
        let own = directory.join(&name);
        fs::create_dir_all(own.join("body")).map_err(io)?;
        fs::create_dir_all(directory.join(format!("upload-{name}"))).map_err(io)?;
        let configuration = own.join("nginx.conf");
        fs::write(&configuration, nginx(&directory.display().to_string(), &name)).map_err(io)?;
        // Nobody waits for these: the reaper ends them with the world, even when this process is gone.
        let start = |program: &str, arguments: &[&str]| {
            let log = fs::File::create(own.join(format!("{program}.log"))).map_err(io)?;
            world
                .command(host, program)
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .map_err(|error| WorldError::io(&format!("cannot start {program}"), &error))
        };
        start("nginx", &["-e", "stderr", "-c", &configuration.display().to_string()])?;
        let script = directory.join("pod.py").display().to_string();
        start("python3", &[&script, &name, &NODES[node].pod_v4(pod), &NODES[node].pod_v6(pod)])?;
    }
    for host in Host::pods() {
        let up = wait_until(Duration::from_secs(10), || {
            let listening = world.run(host, &["ss", "-Hlntu"]);
            let listening = String::from_utf8_lossy(&listening.stdout).into_owned();
            ["0.0.0.0:80 ", "[::]:80 ", "*:7 ", "*:53 "].iter().all(|socket| listening.contains(socket))
        });
        if !up {
            return Err(WorldError::Command(format!(
                "the servers of pod {} did not come up; see {}",
                host.name(),
                directory.join(host.name()).display()
            )));
        }
    }
    Ok(())
}

fn nginx(directory: &str, name: &str) -> String {
    format!(
        "daemon off; worker_processes 1; user root; pid {directory}/{name}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
  access_log off; error_log {directory}/{name}/error.log; default_type application/octet-stream;
  client_body_temp_path {directory}/{name}/body; proxy_temp_path {directory}/{name}/proxy;
  fastcgi_temp_path {directory}/{name}/fastcgi; uwsgi_temp_path {directory}/{name}/uwsgi; scgi_temp_path {directory}/{name}/scgi;
  keepalive_requests 1000000; sendfile on; tcp_nodelay on; client_max_body_size 0;
  server {{
    listen 0.0.0.0:80 backlog=4096; listen [::]:80 backlog=4096;
    location / {{ default_type text/plain; return 200 \"{name}\\n\"; }}
    location = /client {{ default_type text/plain; return 200 \"$remote_addr\\n\"; }}
    location /files/ {{ alias {directory}/files/; }}
    location /slow/ {{ alias {directory}/files/; limit_rate 10k; send_timeout 600; }}
    location /upload/ {{ alias {directory}/upload-{name}/; dav_methods PUT; add_header Pod {name} always; }}
  }}
}}
"
    )
}

// pm2 start ecosystem.config.js. pm2 keeps the supervisor running, the supervisor its processes:
// one entry, not pm2's cluster mode, which is Node's own. `pm2 sendSignal SIGHUP atelier` replaces the processes one by one.
module.exports = {
  apps: [
    {
      name: "atelier",
      cwd: "/var/lib/atelier",
      script: "/opt/atelier/.venv/bin/python",
      args: "-m atelier serve --processes 2",
      interpreter: "none",
      kill_timeout: 90000, // milliseconds; running jobs get ATELIER_DRAIN_TIMEOUT (30 s)
      restart_delay: 2000,
      env: { ATELIER_METRICS_LISTEN: "tcp:9100:interface=127.0.0.1" },
    },
  ],
};

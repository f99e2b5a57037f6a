// Asks an Atelier server for one picture over TCP, and prints what it saw as one line of JSON.
//
//   node client.js HOST PORT TOKEN PROMPT       (or ATELIER_HOST, ATELIER_PORT, ATELIER_TOKEN, ATELIER_PROMPT)
//
// Exits 0 when the Result came, and 1, with "error" in the line, when anything else did.
"use strict";

const crypto = require("node:crypto");
const net = require("node:net");
const path = require("node:path");
const protobuf = require("protobufjs");

const [host, port, token, prompt] = ["HOST", "PORT", "TOKEN", "PROMPT"].map(
  (name, at) => process.argv[2 + at] ?? process.env[`ATELIER_${name}`] ?? "",
);
const PATIENCE_MS = Number(process.env.ATELIER_PATIENCE_MS ?? 120000);
const MAX_FRAME_BYTES_BEFORE_WELCOME = 4096;
const HELLO = 1; // request ids are ours to choose
const SUBMIT = 2;

const proto = path.join(__dirname, "..", "..", "..", "proto", "atelier.proto");
const Envelope = new protobuf.Root().loadSync(proto, { keepCase: true }).lookupType("atelier.v1.Envelope");

const seen = { owner: "", job_id: "", progress: 0, previews: 0, events: [], event_numbers: [], chunk_sizes: [] };
const pictures = new Map(); // image_index -> pieces
let maxFrameBytes = MAX_FRAME_BYTES_BEFORE_WELCOME;
let held = Buffer.alloc(0);

const socket = net.connect(Number(port), host);
const patience = setTimeout(() => finish(`nothing came of it in ${PATIENCE_MS} ms`), PATIENCE_MS);

function say(envelope) {
  const body = Envelope.encode(Envelope.fromObject(envelope)).finish();
  const prefix = Buffer.alloc(4);
  prefix.writeUInt32BE(body.length);
  socket.write(Buffer.concat([prefix, body]));
}

function finish(error) {
  clearTimeout(patience);
  socket.destroy();
  console.log(JSON.stringify(error === undefined ? seen : { ...seen, error }));
  process.exitCode = error === undefined ? 0 : 1;
}

function sha256(bytes) {
  return crypto.createHash("sha256").update(bytes).digest("hex");
}

const answers = {
  welcome({ owner, server_version, limits }) {
    Object.assign(seen, { owner, server_version });
    maxFrameBytes = limits.max_frame_bytes;
    say({ request_id: SUBMIT, submit: { prompt, seed: 7, progress: true, inline_pictures: true } });
  },
  accepted({ job_id }) {
    seen.job_id = job_id;
  },
  progress() {
    seen.progress += 1;
  },
  preview() {
    seen.previews += 1;
  },
  chunk({ image_index, offset, size, data }) {
    const pieces = pictures.get(image_index) ?? [];
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
    if (offset !== length || length + data.length > size) return finish(`a chunk at ${offset}, after ${length} bytes`);
    pictures.set(image_index, [...pieces, data]);
    seen.chunk_sizes.push(data.length);
  },
  result({ artifacts, warnings }) {
    const [artifact] = artifacts;
    const picture = Buffer.concat(pictures.get(artifact.image_index) ?? []);
    Object.assign(seen, { warnings, size: picture.length, sha256: sha256(picture) });
    Object.assign(seen, { result_size: artifact.size, result_sha256: artifact.sha256 });
    finish(seen.sha256 === artifact.sha256 ? undefined : "the picture is not the one that the Result names");
  },
  error: ({ code, field, message }) => finish(`${code} ${field}: ${message}`),
  failed: ({ error }) => finish(`${error.code}: ${error.message}`),
  canceled: () => finish("canceled"),
  goodbye: ({ code, message }) => finish(`Goodbye, ${code}: ${message}`),
};

function hear(body) {
  const envelope = Envelope.toObject(Envelope.decode(body), { longs: Number, enums: String, defaults: true, oneofs: true });
  const kind = envelope.message;
  const message = envelope[kind];
  seen.events.push(kind);
  if (message.event_number !== undefined) seen.event_numbers.push(message.event_number);
  answers[kind]?.(message); // what we do not know is passed over: a later version may say more
}

socket.on("connect", () => say({ request_id: HELLO, hello: { protocol_version: 1, token, client_name: "node" } }));
socket.on("data", (read) => {
  held = held.length === 0 ? read : Buffer.concat([held, read]);
  while (held.length >= 4 && !socket.destroyed) {
    const end = 4 + held.readUInt32BE(0);
    if (end - 4 > maxFrameBytes) return finish(`a frame of ${end - 4} bytes, over ${maxFrameBytes}`);
    if (held.length < end) return;
    const body = held.subarray(4, end);
    held = held.subarray(end);
    hear(body);
  }
});
socket.on("error", (error) => finish(error.message));
socket.on("end", () => finish("the server closed the connection"));

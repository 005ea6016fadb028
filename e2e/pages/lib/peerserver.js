/** Runs PeerServer, the signaling server of PeerJS, on a free port of 127.0.0.1. */

import {spawn} from 'node:child_process';
import {once} from 'node:events';
import {fileURLToPath} from 'node:url';
import {freePort} from './server.js';

const command = fileURLToPath(new URL('../node_modules/peer/dist/bin/peerjs.js', import.meta.url));

/** PeerServer is a process of its own, because the library has timers that it never stops. */
export class PeerServer {
  /** @type {import('node:child_process').ChildProcess | undefined} */
  #process;
  #flags;
  port = 0;

  /** @param {string[]} flags */
  constructor(flags = []) {
    this.#flags = flags;
  }

  /** Returns when the server accepts connections. */
  async start() {
    this.port = await freePort();
    const child = spawn(process.execPath, [command, '--host', '127.0.0.1', '--port', `${this.port}`, ...this.#flags], {stdio: ['ignore', 'pipe', 'inherit']});
    this.#process = child;
    process.once('exit', () => child.kill('SIGKILL')); // a test that times out runs no cleanup
    await new Promise((resolve, reject) => {
      child.stdout.on('data', resolve); // the first line says that it listens
      child.once('exit', code => reject(new Error(`PeerServer exited with ${code}`)));
    });
  }

  async stop() {
    const child = this.#process;
    if (!child || child.exitCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }
}

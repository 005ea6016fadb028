/**
 * Drives WebKitGTK with the WebDriver of Debian's package webkit2gtk-driver, in a display
 * of Xvfb. WebKit is the engine of Safari; this build has no WebRTC and no camera.
 */

import assert from 'node:assert/strict';
import {spawn} from 'node:child_process';
import {existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {freePort} from './server.js';

const driverPath = process.env.WEBKIT_DRIVER ?? '/usr/bin/WebKitWebDriver';
const displayPath = '/usr/bin/Xvfb';
const shots = fileURLToPath(new URL('../shots/', import.meta.url));
/** The key of an element in the JSON of WebDriver. */
const ELEMENT = 'element-6066-11e4-a52e-4f735466cecf';

/** Why the WebKit tests are skipped, or false. In CI they are never skipped. */
export const skip = (existsSync(driverPath) && existsSync(displayPath)) || process.env.CI ? false :
  `${driverPath} or ${displayPath} not found: install webkit2gtk-driver and xvfb`;

/** WebKit is one browser window with an empty profile. */
export class WebKit {
  /** @type {import('node:child_process').ChildProcess[]} */
  #processes = [];
  #home = mkdtempSync(join(tmpdir(), 'inbox-webkit-'));
  #session = '';

  /** Starts the browser. @param {{width: number, height: number}} size of the window */
  static async launch({width, height}) {
    const webkit = new WebKit();
    const display = await webkit.#startDisplay(width, height);
    const port = await freePort();
    const environment = {...process.env, DISPLAY: `:${display}`, HOME: webkit.#home, XDG_RUNTIME_DIR: webkit.#home, LIBGL_ALWAYS_SOFTWARE: '1', GDK_BACKEND: 'x11'};
    webkit.#processes.push(spawn(driverPath, [`--port=${port}`], {env: environment, stdio: 'ignore'}));
    const capabilities = {alwaysMatch: {acceptInsecureCerts: true}};
    const {sessionId} = await webkit.#whenReady(() => webkit.#request(`http://127.0.0.1:${port}/session`, {capabilities}));
    webkit.#session = `http://127.0.0.1:${port}/session/${sessionId}`;
    await webkit.#command('window/rect', {x: 0, y: 0, width, height});
    return webkit;
  }

  /** @param {number} width @param {number} height @returns {Promise<string>} the number of the display */
  #startDisplay(width, height) {
    const display = spawn(displayPath, ['-displayfd', '3', '-screen', '0', `${width}x${height}x24`, '-nolisten', 'tcp'], {stdio: ['ignore', 'ignore', 'ignore', 'pipe']});
    this.#processes.push(display);
    return new Promise((resolve, reject) => {
      display.stdio[3]?.once('data', data => resolve(String(data).trim()));
      display.once('exit', code => reject(new Error(`Xvfb exited with ${code}`)));
    });
  }

  /** Repeats a request until the driver listens. @template T @param {() => Promise<T>} request */
  async #whenReady(request) {
    for (const deadline = Date.now() + 20_000; ;) {
      try {
        return await request();
      } catch (error) {
        if (Date.now() > deadline || !(error instanceof TypeError)) throw error;
        await new Promise(resolve => setTimeout(resolve, 100));
      }
    }
  }

  /**
   * @param {string} url
   * @param {object} [body] of a POST
   */
  async #request(url, body) {
    const response = await fetch(url, body && {method: 'POST', body: JSON.stringify(body)});
    const {value} = await response.json();
    if (!response.ok) throw new Error(`${url}: ${value.error}: ${value.message}`);
    return value;
  }

  /** @param {string} name @param {object} [body] */
  #command(name, body) {
    return this.#request(`${this.#session}/${name}`, body);
  }

  /** @param {string} url */
  async open(url) {
    await this.#command('url', {url});
  }

  /**
   * Runs a function in the page.
   * @template T
   * @param {(...args: any[]) => T} fn
   * @param {unknown[]} args
   * @returns {Promise<T>}
   */
  evaluate(fn, ...args) {
    return this.#command('execute/sync', {script: `return (${fn}).apply(null, arguments)`, args});
  }

  /**
   * Waits until a function in the page returns something true.
   * @template T
   * @param {(...args: any[]) => T} fn
   * @param {unknown[]} args
   */
  async waitFor(fn, ...args) {
    for (const deadline = Date.now() + 30_000; ;) {
      const value = await this.evaluate(fn, ...args);
      if (value) return value;
      if (Date.now() > deadline) assert.fail(`timeout: ${fn} ${args}, the page says: ${await this.text('body')}`);
      await new Promise(resolve => setTimeout(resolve, 100));
    }
  }

  /** Returns the rendered text of an element. @param {string} selector */
  text(selector) {
    return this.evaluate(selector => /** @type {HTMLElement | null} */ (document.querySelector(selector))?.innerText ?? '', selector);
  }

  /** @param {string} selector */
  async #find(selector) {
    return (await this.#command('element', {using: 'css selector', value: selector}))[ELEMENT];
  }

  /** Presses an element with the pointer. @param {string} selector */
  async press(selector) {
    await this.#command(`element/${await this.#find(selector)}/click`, {});
  }

  /** Types into a field with the keyboard. @param {string} selector @param {string} text */
  async type(selector, text) {
    const element = await this.#find(selector);
    await this.#command(`element/${element}/clear`, {});
    await this.#command(`element/${element}/value`, {text});
  }

  /** With SCREENSHOTS=1, keeps a screenshot in shots/, of the frame after the next one. @param {string} name */
  async screenshot(name) {
    if (!process.env.SCREENSHOTS) return;
    await this.#command('execute/async', {script: 'requestAnimationFrame(() => requestAnimationFrame(arguments[0]))', args: []});
    mkdirSync(shots, {recursive: true});
    writeFileSync(`${shots}${name}.png`, Buffer.from(await this.#command('screenshot'), 'base64'));
  }

  async close() {
    if (this.#session) await fetch(this.#session, {method: 'DELETE'}).catch(() => {}); // also ends the browser
    for (const child of this.#processes) child.kill();
    rmSync(this.#home, {recursive: true, force: true});
  }
}

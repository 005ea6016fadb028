/**
 * Receives over an event stream and a WebSocket in a real browser, through whatever is in front of a
 * server, and prints what happened as JSON. Both stay open beyond the first heartbeat.
 *
 *     node streams.js chromium|firefox URL ADDRESS
 *
 * The host of the URL is at the address. Certificates are not checked.
 */

import {chromium} from 'playwright-core';
import puppeteer from 'puppeteer-core';

const [kind, url, address] = process.argv.slice(2);

/** Runs in the page. @returns {Promise<{stream: string, socket: string}>} */
async function talk() {
  /** @param {string} name @param {string} path @param {RequestInit} [init] */
  const request = (name, path, init) => fetch(path, {
    ...init, credentials: 'omit', headers: {...init?.headers, Authorization: 'Basic ' + btoa(`${name}:secret of ${name}`)},
  });

  const overStream = async () => {
    const response = await request('gina', '/inbox?after=', {headers: {Accept: 'text/event-stream'}});
    if (!response.ok || !response.body) throw new Error(`event stream: ${response.status}`);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    /** @param {RegExp} pattern */
    const until = async pattern => {
      while (!pattern.test(text)) {
        const {done, value} = await reader.read();
        if (done) throw new Error(`event stream: ended after ${text}`);
        text += value;
      }
    };
    await until(/^retry: /m);
    for (const body of ['first', 'second']) {
      const sent = await request('ida', '/inbox?to=gina', {method: 'POST', body});
      if (!sent.ok) throw new Error(`send: ${sent.status}`);
      await until(new RegExp(`"body":"${body}"`));
      if (body === 'first') await until(/^:$/m);
    }
    await reader.cancel();
    return 'ok';
  };

  const overSocket = async () => {
    const socket = new WebSocket(`wss://${location.host}/inbox`, 'inbox.1');
    /** @type {string[]} */
    const frames = [];
    /** @type {() => void} */
    let notify = () => {};
    let ended = '';
    socket.onmessage = ({data}) => { frames.push(data); notify(); };
    socket.onclose = ({code, reason}) => { ended = `closed: ${code} ${reason}`; notify(); };
    /** @param {RegExp} pattern @returns {Promise<string>} */
    const until = async pattern => {
      for (;;) {
        const i = frames.findIndex(frame => pattern.test(frame));
        if (i >= 0) return frames.splice(i, 1)[0];
        if (ended) throw new Error(`WebSocket: ${ended}`);
        await new Promise(resolve => { notify = () => resolve(undefined); });
      }
    };
    await new Promise(resolve => { socket.onopen = resolve; notify = () => resolve(undefined); });
    socket.send('hello hugo secret after=');
    await until(/^welcome /);
    for (const ref of [1, 2]) {
      socket.send(`send ${ref} hugo text over a socket`);
      await until(new RegExp(`^ok ${ref}$`));
      const message = await until(/^msg \d+ hugo text over a socket$/);
      socket.send(`ack ${message.split(' ')[1]}`);
      if (ref === 1) await new Promise(resolve => { setTimeout(resolve, 28_000); }); // beyond a ping
    }
    socket.close(1000);
    return 'ok';
  };

  const [stream, socket] = await Promise.all([overStream(), overSocket()].map(async result => {
    try {
      return await result;
    } catch (error) {
      return String(error);
    }
  }));
  return {stream, socket};
}

async function inChromium() {
  const {host} = new URL(url);
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-background-networking', `--host-resolver-rules=MAP ${host} ${address}`],
  });
  const page = await (await browser.newContext({ignoreHTTPSErrors: true})).newPage();
  await page.goto(url);
  const result = await page.evaluate(talk);
  await browser.close();
  return result;
}

async function inFirefox() {
  const browser = await puppeteer.launch({
    browser: 'firefox', executablePath: process.env.FIREFOX ?? '/usr/bin/firefox-esr', headless: true, acceptInsecureCerts: true,
    extraPrefsFirefox: {'network.dns.forceResolve': address, 'network.proxy.type': 0},
    protocolTimeout: 180_000,
  });
  const page = await browser.newPage();
  await page.goto(url);
  const result = await page.evaluate(talk);
  await browser.close();
  return result;
}

console.log(JSON.stringify(await (kind === 'firefox' ? inFirefox() : inChromium())));

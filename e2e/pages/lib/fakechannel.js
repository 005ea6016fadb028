/** A pair of fake RTCDataChannels. Frames arrive in a later task; the line can be cut. */

export class FakeChannel extends EventTarget {
  label = 'fake';
  protocol = '';
  negotiated = false;
  binaryType = 'blob';
  bufferedAmountLowThreshold = 0;
  bufferedAmount = 0;
  /** @type {RTCDataChannelState} */
  readyState = 'connecting';
  /** The frames that were sent. @type {Uint8Array[]} */
  frames = [];
  /** Whether frames stay in the buffer. */
  stalled = false;
  /** Whether frames are lost. */
  cut = false;
  /** @type {FakeChannel | null} */
  other = null;

  /** @param {Uint8Array} frame */
  send(frame) {
    if (this.readyState !== 'open') throw new DOMException('not open', 'InvalidStateError');
    this.frames.push(frame);
    if (this.stalled) this.bufferedAmount += frame.length;
    if (!this.cut) setTimeout(() => this.other?.receive(frame), 0);
  }

  /** Empties the buffer. */
  drain() {
    this.bufferedAmount = 0;
    this.dispatchEvent(new Event('bufferedamountlow'));
  }

  /** @param {unknown} frame */
  receive(frame) {
    if (this.readyState !== 'open') return;
    const data = frame instanceof Uint8Array ? frame.slice().buffer : frame;
    this.dispatchEvent(new MessageEvent('message', {data}));
  }

  open() {
    this.readyState = 'open';
    this.dispatchEvent(new Event('open'));
  }

  close() {
    for (const channel of [this, this.other]) {
      if (!channel || channel.readyState === 'closed') continue;
      setTimeout(() => { // after the frames
        channel.readyState = 'closed';
        channel.dispatchEvent(new Event('close'));
      }, 0);
    }
  }
}

/** Returns two channels that lead to each other. @returns {[FakeChannel, FakeChannel]} */
export function channelPair() {
  const [one, two] = [new FakeChannel(), new FakeChannel()];
  [one.other, two.other] = [two, one];
  return [one, two];
}

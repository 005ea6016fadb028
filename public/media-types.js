/** The media types of messages by their names in frames and events. @type {Record<string, string>} */
export const mediaTypes = {
  json: 'application/json', sdp: 'application/sdp', frag: 'application/trickle-ice-sdpfrag', text: 'text/plain', bytes: 'application/octet-stream',
};

import { addStyle, button, element } from "../elements.js";
import { level, Microphone } from "./microphone.js";
import { Onset } from "./onset.js";
import { Transcript } from "./transcript.js";

// What a person sees of a conversation and does in it: state, transcript, microphone, typed messages.

const STATES = {
    idle: "Run the workflow to talk",
    listening: "Listening",
    thinking: "Thinking…",
    speaking: "Speaking",
    broken: "Connecting…",
    ended: "Ended",
};

const STYLE = `
.liveavatar-talk { display: flex; flex-direction: column; gap: 6px; height: 100%; min-height: 240px; overflow: hidden;
    font: 12px sans-serif; color: var(--input-text, #ddd); }
.liveavatar-talk[hidden], .liveavatar-talk [hidden] { display: none; }
.liveavatar-talk .state { display: flex; align-items: center; gap: 6px; }
.liveavatar-talk .state::before { content: ""; width: 10px; height: 10px; border-radius: 5px; background: #888; }
.liveavatar-talk .state[data-state="listening"]::before { background: #4a4; }
.liveavatar-talk .state[data-state="thinking"]::before { background: #da2; }
.liveavatar-talk .state[data-state="speaking"]::before { background: #48e; }
.liveavatar-talk .state[data-state="broken"]::before { background: #c33; }
.liveavatar-talk meter { flex: 1; height: 10px; min-width: 40px; }
.liveavatar-talk .transcript { flex: 1; min-height: 60px; overflow-y: auto; padding: 4px 8px; border-radius: 4px;
    background: var(--comfy-input-bg, #222); user-select: text; cursor: text; }
.liveavatar-talk p { margin: 3px 0; overflow-wrap: anywhere; white-space: pre-wrap; }
.liveavatar-talk .you::before { content: "You: "; font-weight: bold; }
.liveavatar-talk .avatar::before { content: "Avatar: "; font-weight: bold; }
.liveavatar-talk .note { opacity: 0.8; font-style: italic; }
.liveavatar-talk .unsure { opacity: 0.6; }
.liveavatar-talk .cut::after { content: " –"; }
.liveavatar-talk fieldset { display: contents; }
.liveavatar-talk :disabled { opacity: 0.5; cursor: default; }
.liveavatar-talk :is(form, .controls) { display: flex; flex-wrap: wrap; gap: 6px; }
.liveavatar-talk :is(button, input) { font: inherit; padding: 3px 8px; border-radius: 4px; color: inherit;
    border: 1px solid var(--border-color, #555); background: var(--comfy-input-bg, #222); }
.liveavatar-talk input { flex: 1; min-width: 0; }
.liveavatar-talk button { cursor: pointer; touch-action: none; }
.liveavatar-talk button[aria-pressed="true"] { background: #a33; color: #fff; }
.liveavatar-talk :focus-visible { outline: 2px solid #48e; outline-offset: -1px; }
`;

export class TalkPanel {
    #socket = null;
    #microphone = null;
    #muted = false;
    #held = false;
    #place = {};
    onset = new Onset();

    /** `begun` is called when somebody begins to speak into the microphone. */
    constructor(begun) {
        this.begun = begun;
        addStyle("talk", STYLE);
        this.transcript = new Transcript();
        this.state = element("span", { className: "word", role: "status" });
        this.meter = element("meter", { ariaLabel: "Microphone level", low: 0.15, value: 0, hidden: true });
        this.stateLine = element("div", { className: "state" }, this.state, this.meter);
        this.talkButton = button("Microphone", "Speak with the avatar", () => this.#turn(!this.#microphone));
        this.muteButton = button("Mute", "Keep the microphone, but send silence", () => this.#mute(!this.#muted));
        this.holdButton = button("Hold to talk", "Your turn lasts while you hold this, or Space", () => {});
        this.stopButton = button("Interrupt", "Stop what the avatar says", () => this.#socket.tell({ type: "stop" }));
        this.endButton = button("End", "Let the video end", () => this.#socket.tell({ type: "end" }));
        this.message = element("input", { placeholder: "Type a message", ariaLabel: "Message", maxLength: 4000 });
        const form = element("form", {}, this.message, element("button", { type: "submit", textContent: "Send" }));
        const controls = element("div", { className: "controls" });
        this.fields = element("fieldset", { disabled: true }, form, controls);
        controls.append(this.talkButton, this.muteButton, this.holdButton, this.stopButton, this.endButton);
        // In Nodes 2.0, a widget with this class gets the height that a node has left.
        this.element = element("section", { className: "liveavatar-talk widget-expands", ariaLabel: "Conversation" });
        this.element.append(this.stateLine, this.transcript.element, this.fields);

        form.addEventListener("submit", (event) => {
            event.preventDefault();
            this.#send();
        });
        this.#listenToHolding();
        this.show("idle");
        // The page's own keys would delete the node, and its pointer move it.
        for (const name of ["pointerdown", "wheel", "keydown", "keyup", "contextmenu"])
            this.element.addEventListener(name, (event) => event.ctrlKey || event.metaKey || event.stopPropagation());
        this.#show();
    }

    /** A conversation begins, or goes on: `place` is what the server has told of it, `socket` its TalkSocket. */
    open(place, socket) {
        this.#place = place;
        this.#socket = socket;
        this.fields.disabled = false;
        this.show("broken");
        this.#show();
    }

    /** It is over; what was said can still be read. */
    close() {
        this.#hold(false);
        this.#turn(false);
        this.fields.disabled = true;
        this.show("ended");
    }

    /** Something that the person should know. */
    say(text) {
        this.transcript.note(text);
    }

    /** What the conversation does: one of STATES. */
    show(state) {
        this.stateLine.dataset.state = state;
        this.state.textContent = STATES[state] ?? this.#waiting;
    }

    /** Why nobody is listened to. */
    get #waiting() {
        if (!this.#place.hears) return "Type a message";
        return this.#place.push_to_talk ? "Hold to talk" : "Getting ready…";
    }

    #send() {
        const text = this.message.value.trim();
        if (!text) return;
        if (this.#socket.tell({ type: "text", text })) this.message.value = "";
        else this.say("Send it again in a moment: there is no connection to ComfyUI.");
    }

    /** Turn the microphone on or off. One tab of a browser speaks at a time; the others show and hear what is said. */
    async #turn(on) {
        this.#microphone?.close();
        this.#microphone = null;
        this.#mute(false);
        if (!on) return;
        const microphone = (this.#microphone = new Microphone(
            this.#place.id,
            (piece) => this.#hear(piece),
            () => this.#lose("Connect the microphone again: it was unplugged."),
        ));
        this.#show();
        try {
            await microphone.open();
            microphone.muted = this.#muted;
        } catch (error) {
            if (this.#microphone === microphone) this.#lose(error.message);
        }
    }

    #lose(text) {
        this.#turn(false);
        this.say(text);
    }

    #hear(piece) {
        this.meter.value = level(piece);
        if (this.onset.hear(this.meter.value) && !this.#place.push_to_talk) this.begun();
        if (this.#held || !this.#place.push_to_talk) this.#socket.hear(piece);
    }

    #mute(muted) {
        this.#muted = muted;
        if (this.#microphone) this.#microphone.muted = muted;
        this.#show();
    }

    /** Push to talk: by the button, by Enter or Space on it, and by Space wherever nothing is typed or pressed. */
    #listenToHolding() {
        const { holdButton } = this;
        holdButton.addEventListener("pointerdown", ({ pointerId }) => {
            holdButton.setPointerCapture(pointerId);
            this.#hold(true);
        });
        const isKey = ({ key, target }) =>
            !holdButton.hidden &&
            (target === holdButton ? key === " " || key === "Enter" : key === " " && target === this.transcript.element);
        this.element.addEventListener("keydown", (event) => {
            if (!isKey(event)) return;
            event.preventDefault();
            this.#hold(true);
        });
        this.element.addEventListener("keyup", (event) => isKey(event) && this.#hold(false));
        holdButton.addEventListener("lostpointercapture", () => this.#hold(false));
        this.element.addEventListener("focusout", ({ relatedTarget }) => {
            if (!this.element.contains(relatedTarget)) this.#hold(false);
        });
    }

    #hold(held) {
        if (held === this.#held || (held && this.fields.disabled)) return;
        this.#held = held;
        if (held && !this.#microphone) this.#turn(true);
        this.#socket.tell({ type: "talk", held });
        this.#show();
    }

    #show() {
        this.talkButton.ariaPressed = String(Boolean(this.#microphone));
        this.muteButton.ariaPressed = String(this.#muted);
        this.holdButton.ariaPressed = String(this.#held);
        const { hears, push_to_talk } = this.#place;
        this.talkButton.hidden = !hears;
        this.holdButton.hidden = !hears || !push_to_talk;
        this.muteButton.hidden = !this.#microphone || push_to_talk;
        this.meter.hidden = !this.#microphone;
    }
}

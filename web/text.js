import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { addStyle, element } from "./elements.js";
import { addElement, enlarge, findNode, rootGraph } from "./graph.js";

// A line on a node while and after it runs: its plan, how far it is. As plain text, only in the workflow that the run
// belongs to, and not among the settings that a workflow keeps.

const WIDGET = "liveavatar-text";
const LINE = 16; // pixels
const LETTER = 6.5; // pixels, about
const MARGIN = 6;

// Nodes 2.0 would give the widgets of such a node as much height as its picture has.
const STYLE = `.lg-node-widgets:has(.${WIDGET}):not(:has(.widget-expands)) { flex: none !important; }`;

const texts = new Map(); // workflow -> Map of execution id -> text

/** How many lines a text takes on a node of this width. */
function lines(text, width) {
    const letters = Math.max(1, Math.floor((width - 2 * MARGIN) / LETTER));
    return text.split("\n").reduce((sum, line) => sum + Math.max(1, Math.ceil(line.length / letters)), 0);
}

function addLine(node) {
    const line = element("div", { className: WIDGET });
    Object.assign(line.style, { font: `12px/${LINE}px sans-serif`, whiteSpace: "pre-wrap", overflow: "auto" });
    line.style.color = "var(--input-text, #ddd)";
    line.style.overflowWrap = "anywhere";
    return addElement(node, WIDGET, line, {
        margin: MARGIN,
        getMinHeight: () => LINE * lines(line.textContent, node.size[0]) + 2 * MARGIN,
    });
}

function show(executionId, text) {
    const node = findNode(executionId);
    if (!node) return;
    const widget = node.widgets?.find(({ name }) => name === WIDGET) ?? addLine(node);
    widget.element.textContent = text;
    enlarge(node);
    node.setDirtyCanvas(true, true);
}

app.registerExtension({
    name: "LiveAvatar.Text",
    setup() {
        addStyle("text", STYLE);
        api.addEventListener("liveavatar.text", ({ detail: { workflow, node, text } }) => {
            if (!workflow) return;
            if (!texts.has(workflow)) texts.set(workflow, new Map());
            texts.get(workflow).set(node, text);
            if (workflow === rootGraph()?.id) show(node, text);
        });
    },
    /** The page makes the nodes anew when somebody comes back to a workflow. */
    afterConfigureGraph() {
        texts.get(rootGraph()?.id)?.forEach((text, node) => show(node, text));
    },
});

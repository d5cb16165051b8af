import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { addElement, enlarge, ensureOwnId, findNode, isShown, rootGraph, whenRemoved } from "./graph.js";
import { LivePlayer } from "./live_player.js";

// Puts a live player on each Avatar Stream to Video whose stream this page may watch: those of the workflow
// that is open, whichever page has started the run. Only a node that can be seen plays, not one in a closed subgraph.

const NODE = "AvatarStreamToVideo";
const PAGE_WIDGET = "video-preview";
const WIDGET = "liveavatar-player";
const MIN_WIDTH = 340;
const HEIGHT = 300;

const players = new Map(); // node -> LivePlayer

/** The player that shows what a run makes, by the run's id. */
export function playerOf(prompt) {
    return prompt && [...players.values()].find((player) => player.prompt === prompt);
}

function addPlayer(node) {
    const player = new LivePlayer();
    addElement(node, WIDGET, player.element, { getMinHeight: () => HEIGHT });
    players.set(node, player);
    // The page has a player of its own for the finished file; ours shows that file as well.
    node.hideOutputImages = true; // in Nodes 2.0
    node.videoContainer = document.createElement("div"); // on the canvas, where the page fills this container
    const own = node.widgets.find(({ name }) => name === PAGE_WIDGET);
    if (own) node.removeWidget(own);
    whenRemoved(node, () => {
        players.delete(node);
        player.dispose();
    });
    enlarge(node, MIN_WIDTH);
    return player;
}

function show(status) {
    if (status.workflow !== rootGraph()?.id) return;
    const node = findNode(status.node);
    if (node?.type === NODE && isShown(node)) (players.get(node) ?? addPlayer(node)).show(status);
}

/** Ask for the streams of the open workflow: after a reload, or when another page has started one. */
async function ask() {
    const workflow = rootGraph()?.id;
    if (!workflow) return;
    const response = await api.fetchApi(`/liveavatar/streams?workflow=${encodeURIComponent(workflow)}`);
    if (response.ok) (await response.json()).forEach(show);
}

/** Another graph of the workflow is shown: a subgraph was opened or closed. */
function changeGraph() {
    for (const [node, player] of players) if (!isShown(node)) player.clear();
    ask();
}

app.registerExtension({
    name: "LiveAvatar.LivePlayer",
    setup() {
        api.addEventListener("liveavatar.stream", ({ detail }) => show(detail));
        api.addEventListener("liveavatar.fragment", ({ detail }) => players.forEach((player) => player.bring(detail)));
        api.addEventListener("liveavatar.streams", ask);
        api.addEventListener("executed", ({ detail }) => {
            const node = findNode(detail.display_node ?? detail.node);
            const place = detail.output?.images?.[0];
            if (place && players.has(node) && isShown(node)) players.get(node).showFile(place);
        });
        app.canvas.canvas.addEventListener("litegraph:set-graph", changeGraph);
    },
    nodeCreated(node) {
        if (node.comfyClass !== NODE) return;
        // Where the page shows the file itself. It also keeps previews, which are pictures, off the canvas.
        node.previewMediaType = "video";
        ensureOwnId(); // before the page keeps the graph
    },
    afterConfigureGraph: ask,
});

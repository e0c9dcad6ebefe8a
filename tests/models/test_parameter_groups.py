import timm

from sempre.pretraining.masked_autoencoders import FCMAE
from sempre.training.optimisation import pretraining_groups


def test_each_layer_of_the_encoder_may_learn_slower_than_the_one_above():
    network = timm.create_model("convnextv2_atto", in_chans=1, num_classes=0, depths=(1, 1, 1, 1), dims=(8, 8, 16, 16))
    model = FCMAE(network, decoder_width=8)
    rates = {}
    for group in pretraining_groups(model, network, 0.05, 0.5):
        rates |= {id(weight): group.get("lr_scale", 1.0) for weight in group["params"]}
    trained = {id(weight) for weight in model.parameters() if weight.requires_grad}
    assert set(rates) == trained, "every parameter is in a group, and none twice"
    stages = [rates[id(stage.blocks[0].conv_dw.weight)] for stage in network.stages]
    assert rates[id(network.stem[0].weight)] < stages[0] < stages[1] < stages[2] < stages[3] < 1
    assert all(rates[id(weight)] == 1 for weight in model.decoder.parameters())
    plain = pretraining_groups(model, network, 0.05, 1.0)
    assert len(plain) == 2 and all("lr_scale" not in group for group in plain)
